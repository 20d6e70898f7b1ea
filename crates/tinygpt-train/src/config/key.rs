//! Keys of a configuration, each defined once.
//!
//! [`config!`](crate::config) makes a struct whose fields carry, besides type and default, what a
//! command line needs to know about them: a help text (the field's documentation), a heading, a
//! range and a name for the value. A program builds its flags from [`Key`]s and never repeats them.

use std::path::PathBuf;

use serde_json::Value;
use tinygpt_data::Encoding;

use crate::report::as_typed;

/// Everything about one key except its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The name in JSON, in `snake_case`.
    pub name: &'static str,
    /// The help text, one line of source code each.
    pub help: &'static [&'static str],
    /// The group that it belongs to.
    pub heading: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// The numbers that it accepts.
    pub range: Range,
    /// A name for the value, such as `DIR`; may be empty.
    pub value_name: &'static str,
}

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Bool,
    /// An integer of at least 0.
    Count,
    /// A finite number.
    Number,
    /// A text.
    Text,
    /// A path.
    Path,
    /// A list of paths.
    Paths,
    /// One of these words.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// A word that people try, and why it is refused.
        refused: Option<(&'static str, &'static str)>,
    },
}

/// The numbers that a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Range {
    /// Every number of its type.
    #[default]
    Any,
    /// At least 1.
    AtLeastOne,
    /// More than 0.
    Positive,
    /// At least 0.
    ZeroOrMore,
    /// At least 0, and 0 turns something off.
    ZeroIsOff,
    /// From 0 up to but not including 1.
    BelowOne,
    /// From 0 to 1.
    UpToOne,
}

impl Kind {
    /// Checks that `value` has the type of this kind.
    ///
    /// # Errors
    /// What the value is and what was expected.
    pub fn check(self, value: &Value) -> Result<(), String> {
        use serde::Deserialize as _;
        let result = match self {
            Self::Bool => bool::deserialize(value).map(drop),
            Self::Count => u64::deserialize(value).map(drop),
            Self::Number => f64::deserialize(value).map(drop),
            Self::Path => PathBuf::deserialize(value).map(drop),
            Self::Paths => Vec::<PathBuf>::deserialize(value).map(drop),
            Self::Text | Self::Choice { .. } => String::deserialize(value).map(drop),
        };
        result.map_err(|error| error.to_string())
    }

    /// What a choice accepts instead of `value`; `None` if this is not a choice, or accepts it.
    pub fn instead_of(self, value: &Value) -> Option<String> {
        let (Self::Choice { words, refused }, Some(word)) = (self, value.as_str()) else {
            return None;
        };
        if words.contains(&word) {
            return None;
        }
        let why = refused.filter(|(refused, _)| *refused == word);
        let why = why.map_or(String::new(), |(word, why)| format!(" ({word} {why})"));
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        Some(words.join(" or ") + &why)
    }

    /// The choice among `words`.
    pub const fn choice(words: &'static [&'static str]) -> Self {
        Self::Choice { words, refused: None }
    }
}

impl Range {
    /// The range in words; `is_optional` if the key can also be null.
    pub(crate) fn expected(self, is_optional: bool) -> String {
        let numbers = match self {
            Self::Any => "a number",
            Self::AtLeastOne => "at least 1",
            Self::Positive => "a finite number above 0",
            Self::ZeroOrMore => "a finite number of at least 0",
            Self::ZeroIsOff => "a finite number of at least 0 (0 turns it off)",
            Self::BelowOne => "from 0 up to but not including 1",
            Self::UpToOne => "from 0 to 1",
        };
        if is_optional { format!("null or {numbers}") } else { numbers.to_owned() }
    }

    fn has(self, number: f64) -> bool {
        match self {
            Self::Any => true,
            Self::AtLeastOne => number >= 1.0,
            Self::Positive => number.is_finite() && number > 0.0,
            Self::ZeroOrMore | Self::ZeroIsOff => number.is_finite() && number >= 0.0,
            Self::BelowOne => (0.0..1.0).contains(&number),
            Self::UpToOne => (0.0..=1.0).contains(&number),
        }
    }
}

/// A type that a key can have.
pub trait KeyValue {
    /// Its kind.
    const KIND: Kind;
    /// Whether it can be null.
    const IS_OPTIONAL: bool = false;

    /// The value in the form in which it is typed, if it is outside `range`.
    fn outside(&self, _range: Range) -> Option<String> {
        None
    }
}

impl<T: KeyValue> KeyValue for Option<T> {
    const KIND: Kind = T::KIND;
    const IS_OPTIONAL: bool = true;

    fn outside(&self, range: Range) -> Option<String> {
        self.as_ref()?.outside(range)
    }
}

impl KeyValue for bool {
    const KIND: Kind = Kind::Bool;
}

impl KeyValue for u64 {
    const KIND: Kind = Kind::Count;

    fn outside(&self, range: Range) -> Option<String> {
        (!range.has(*self as f64)).then(|| self.to_string())
    }
}

impl KeyValue for usize {
    const KIND: Kind = Kind::Count;

    fn outside(&self, range: Range) -> Option<String> {
        (*self as u64).outside(range)
    }
}

impl KeyValue for f64 {
    const KIND: Kind = Kind::Number;

    fn outside(&self, range: Range) -> Option<String> {
        (!range.has(*self)).then(|| as_typed(*self))
    }
}

impl KeyValue for String {
    const KIND: Kind = Kind::Text;
}

impl KeyValue for PathBuf {
    const KIND: Kind = Kind::Path;
}

impl KeyValue for Vec<PathBuf> {
    const KIND: Kind = Kind::Paths;
}

impl KeyValue for Encoding {
    const KIND: Kind = Kind::choice(&["simple", "bpe"]);
}

/// Defines a configuration: a struct, its defaults, and a [`Key`] for each field.
///
/// Each field is `name: Type = default`, then `in RANGE` (a variant of [`Range`]) if not all
/// numbers of its type are allowed, then a name for its value if it has one. Its documentation is
/// its help text. Fields are grouped under headings.
///
/// ```
/// tinygpt_train::config! {
///     /// How long to wait.
///     #[derive(Debug, Clone)]
///     pub struct Timeouts {
///         "Time" {
///             /// Longest wait in seconds
///             max_wait: f64 = 2.5, in Positive, "SECONDS";
///         }
///     }
/// }
/// let key = &Timeouts::KEYS[0];
/// assert_eq!((key.name, key.heading, key.value_name), ("max_wait", "Time", "SECONDS"));
/// assert_eq!(key.help, [" Longest wait in seconds"]);
/// assert_eq!(Timeouts { max_wait: 0.0 }.out_of_range().len(), 1);
/// ```
#[macro_export]
macro_rules! config {
    (
        $(#[$attribute:meta])*
        pub struct $Config:ident {
            $($heading:literal {
                $(
                    $(#[doc = $help:literal])+
                    $name:ident: $Type:ty = $default:expr
                        $(, in $range:ident)? $(, $value_name:literal)?;
                )+
            })+
        }
    ) => {
        $(#[$attribute])*
        #[derive(::serde::Serialize, ::serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $Config {
            $($(
                $(#[doc = $help])+
                pub $name: $Type,
            )+)+
        }

        impl Default for $Config {
            fn default() -> Self {
                Self { $($($name: $default,)+)+ }
            }
        }

        impl $Config {
            /// All keys, in the order of the fields.
            pub const KEYS: &'static [$crate::Key] = &[
                $($($crate::Key {
                    name: stringify!($name),
                    help: &[$($help),+],
                    heading: $heading,
                    kind: <$Type as $crate::KeyValue>::KIND,
                    range: $crate::config!(@range $($range)?),
                    value_name: $crate::config!(@value_name $($value_name)?),
                },)+)+
            ];

            /// A fault for each key whose number is not in its range.
            pub fn out_of_range(&self) -> Vec<$crate::Fault> {
                let mut faults = Vec::new();
                $($(faults.extend($crate::Fault::of_range(
                    stringify!($name),
                    &self.$name,
                    $crate::config!(@range $($range)?),
                ));)+)+
                faults
            }
        }
    };
    (@range) => { $crate::Range::Any };
    (@range $range:ident) => { $crate::Range::$range };
    (@value_name) => { "" };
    (@value_name $name:literal) => { $name };
}
