//! What each binary does after its command line is parsed, in order.

mod inside;
mod listen;
mod next_step;
mod prepare;
mod prepare_report;
mod pretrained;
mod rendering;
mod sample;
mod source_report;
mod starting_point;
mod story;
mod train;
mod verify_resume;

pub use prepare::prepare;
pub use sample::sample;
pub use train::train;
