//! The files of a model: Hugging Face directories, and GGUF for llama.cpp.

pub mod gguf;
pub mod hf;
