//! tinygpt-train
