//! Progress on stderr: bars on a terminal, plain lines elsewhere.

mod doing;
mod pace;
mod prepare;
mod profile;
mod rising;
mod train;

pub use prepare::PrepareBars;
pub use train::TrainLines;
