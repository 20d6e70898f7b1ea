//! What the model must be, seen from outside: PyTorch's numbers, laws that hold for any GPT-2, and
//! directories exchanged with `transformers`.

mod fixture;
mod gguf;
mod golden;
mod hf;
mod laws;
mod quantized;
mod sampling;
