//! How far a run is: bars on a terminal, plain lines everywhere else, all of it on stderr.

mod doing;
mod pace;
mod prepare;
mod profile;
mod rising;
mod train;

pub use prepare::PrepareBars;
pub use train::TrainLines;
