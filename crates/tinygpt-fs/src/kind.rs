//! The class of an error: one vocabulary for all crates.

/// What a caller needs to know about an error in order to react, such as to choose an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be met: an unknown name, a wrong key or value, a directory in use by
    /// something else.
    Usage,
    /// A file is damaged, incomplete or of another format.
    Corrupt,
    /// The operating system refused to read or write.
    Io,
    /// The network, or a server on it, failed.
    Network,
    /// A loss, a gradient, a weight or a logit is infinite or not a number.
    NonFinite,
    /// Another process uses the same directory.
    Locked,
    /// A process of the same run has died, hangs or computes something else.
    Ranks,
    /// Anything else.
    Unexpected,
}
