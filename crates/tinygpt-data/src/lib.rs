//! tinygpt-data
