//! How far a run is: bars on a terminal, plain lines everywhere else, all of it on stderr.

mod prepare;
mod profile;
mod train;

pub use prepare::PrepareBars;
pub use train::TrainLines;
