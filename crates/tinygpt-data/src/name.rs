//! Names of datasets. Each is the name of a directory, and is the same on Linux, macOS and Windows.

use crate::error::DataError;

/// The longest name, in bytes.
const MAX_BYTES: usize = 96;

/// The dataset name of a file whose own name has no usable characters.
const NAMELESS: &str = "text";

/// What a name may be, for messages.
pub const DATASET_NAME_RULE: &str =
    "letters, digits, `_`, `-` and `.`, starting with a letter, a digit or `_`";

/// Why `name` is not a valid dataset name, as the end of a sentence; `None` if it is valid.
///
/// ```
/// use tinygpt_data::dataset_name_fault;
/// assert_eq!(dataset_name_fault("história_2"), None);
/// assert_eq!(dataset_name_fault("my text").as_deref(), Some("it contains ` `"));
/// ```
pub fn dataset_name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if let Some(c) = name.chars().find(|&c| !is_harmless(c)) {
        return Some(format!("it contains `{}`", c.escape_debug()));
    }
    if name.starts_with(['.', '-']) || name.ends_with('.') {
        return Some("it starts with `.` or `-`, or ends with `.`".to_owned());
    }
    if name.len() > MAX_BYTES {
        return Some(format!("it is {} bytes long, {MAX_BYTES} are allowed", name.len()));
    }
    is_reserved(name).then(|| "Windows reserves that name for a device".to_owned())
}

/// Checks that `name` is a valid dataset name.
pub(crate) fn check(name: &str) -> Result<(), DataError> {
    let Some(fault) = dataset_name_fault(name) else { return Ok(()) };
    let start: String = name.chars().take(80).collect();
    let dots = if start.len() < name.len() { "…" } else { "" };
    let what = format!("dataset_name `{start}{dots}` cannot be used: {fault}");
    Err(DataError::usage(what, format!("use {DATASET_NAME_RULE}")))
}

/// A valid dataset name as similar as possible to the name of a file, folder or repository.
pub(crate) fn derived(text: &str) -> String {
    if dataset_name_fault(text).is_none() {
        return text.to_owned();
    }
    let mut name = String::new();
    for c in text.chars() {
        if name.len() + c.len_utf8() > MAX_BYTES - PREFIX.len() {
            break;
        }
        if is_harmless(c) {
            name.push(c);
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    let name = name.trim_matches(['.', '-', '_']);
    match name {
        "" => NAMELESS.to_owned(),
        name if is_reserved(name) => format!("{PREFIX}{name}"),
        name => name.to_owned(),
    }
}

/// The prefix for a name that Windows reserves.
const PREFIX: &str = "text_";

/// Whether a character is the same in every file system, shell and terminal: letters and digits
/// of any script with their marks, `_`, `-` and `.`.
fn is_harmless(c: char) -> bool {
    // Word characters are also the two joiners, which cannot be seen.
    let is_joiner = matches!(c, '\u{200C}' | '\u{200D}');
    let is_word = regex_syntax::try_is_word_character(c).unwrap_or(c.is_alphanumeric());
    matches!(c, '-' | '.') || (is_word && !is_joiner)
}

/// Whether Windows treats the name as a device, whatever follows its first dot.
fn is_reserved(name: &str) -> bool {
    let base = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let is_numbered = |device: &str| {
        let number = base.strip_prefix(device).and_then(|rest| rest.parse::<u8>().ok());
        number.is_some_and(|number| number <= 9)
    };
    ["con", "prn", "aux", "nul"].contains(&&*base) || is_numbered("com") || is_numbered("lpt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn derived_names_keep_what_can_be_kept() {
        for (text, name) in [
            ("stories", "stories"),
            ("a.b.c", "a.b.c"),
            ("__init__", "__init__"),
            ("My Story (final)", "My_Story_final"),
            ("chat log 2023-05-01", "chat_log_2023-05-01"),
            ("[draft] two  spaces", "draft_two_spaces"),
            ("história", "história"),
            ("histo\u{301}ria", "histo\u{301}ria"),
            ("日记", "日记"),
            ("हिन्दी", "हिन्दी"),
            ("-dash", "dash"),
            (".hidden", "hidden"),
            ("what?", "what"),
            ("ends.", "ends"),
            ("*", "text"),
            ("🦜", "text"),
            ("", "text"),
            ("\u{202E}gnp", "gnp"),
            ("\u{FFFD}a", "a"),
            ("con", "text_con"),
            ("NUL.old", "text_NUL.old"),
            ("com1", "text_com1"),
            ("com10", "com10"),
            ("console", "console"),
        ] {
            assert_eq!(derived(text), name, "{text:?}");
        }
        assert_eq!(derived(&"é".repeat(100)).chars().count(), 45);
    }

    #[test]
    fn faults_are_named() {
        for (name, fault) in [
            ("", "empty"),
            ("a b", "` `"),
            ("../up", "`/`"),
            ("C:x", "`:`"),
            ("a\\b", "`\\\\`"),
            ("a\nb", "`\\n`"),
            (".x", "starts with"),
            ("-x", "starts with"),
            ("x.", "ends with"),
            ("aux", "Windows"),
            ("Lpt9.txt", "Windows"),
        ] {
            let found = dataset_name_fault(name);
            assert!(found.as_ref().is_some_and(|it| it.contains(fault)), "{name:?}: {found:?}");
            assert!(check(name).is_err(), "{name:?}");
        }
        let long = "a".repeat(3_000_000);
        let message = check(&long).map_err(|error| error.to_string());
        assert!(message.is_err_and(|it| it.contains("3000000 bytes") && it.len() < 400));
    }

    proptest! {
        #[test]
        fn every_derived_name_can_be_used(text in ".*|[conauxlpt0-9.]{0,8}|\\PC{0,200}") {
            let name = derived(&text);
            prop_assert_eq!(dataset_name_fault(&name), None);
            prop_assert_eq!(derived(&name), name);
        }
    }
}
