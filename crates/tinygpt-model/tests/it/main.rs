//! Tests through the public API: PyTorch's numbers, properties that hold for any GPT-2, and
//! directories exchanged with `transformers`.

mod cuda;
mod documents;
mod fixture;
mod gguf;
mod golden;
mod hf;
mod masked;
mod properties;
mod quantized;
mod sampling;
