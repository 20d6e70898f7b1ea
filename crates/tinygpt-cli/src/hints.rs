//! What to do about an error of a library, in the words of the program that was run.
//!
//! Libraries speak of keys. Here keys become flags, environment variables and commands.

mod data;

pub use data::{in_flags, of_data, of_hub};
