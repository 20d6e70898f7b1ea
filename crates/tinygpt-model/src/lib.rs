//! tinygpt-model
