//! tinygpt-cli
