//! tinygpt-data

pub mod tales;
