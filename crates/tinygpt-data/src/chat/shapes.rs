//! The shapes in which datasets hold conversations, and the messages in them.

use serde_json::{Map, Value};

use super::message::{Message, kind};

/// What a record should have been.
pub(crate) const EXPECTED: &str = "expected one of the shapes `messages: [{role, content}]`, `conversations: \
     [{from, value}]`, `prompt` and `completion`, or `instruction`, `input` and `output`";

/// The fields that a record of each shape has; the first one says which shape it is.
const SHAPES: [&[&str]; 4] =
    [&["messages"], &["conversations"], &["prompt", "completion"], &["instruction", "output"]];

/// Whether a table with these columns holds conversations.
pub(crate) fn are_conversations(columns: &[String]) -> bool {
    let has = |name: &&str| columns.iter().any(|column| column == name);
    SHAPES.iter().any(|fields| fields.iter().all(has))
}

/// The messages of a record, or what is wrong with it.
///
/// - `messages: [{"role", "content"}]`, as OpenAI and `transformers` write them;
/// - `conversations: [{"from", "value"}]`, as ShareGPT does;
/// - `prompt` and `completion`, two texts or two lists of messages;
/// - `instruction`, perhaps `input`, and `output`, as Alpaca does.
pub(crate) fn messages_of(record: &Value) -> Result<Vec<Message>, String> {
    let Value::Object(record) = record else {
        return Err(format!("not an object but {}", kind(record)));
    };
    let shape = SHAPES.iter().find_map(|fields| record.get_key_value(fields[0]));
    let messages = match shape {
        Some((key, list)) if key == "messages" || key == "conversations" => turns(list, key)?,
        Some((key, _)) if key == "prompt" => {
            let mut messages = side(record, "prompt", "user")?;
            messages.extend(side(record, "completion", "assistant")?);
            messages
        }
        Some(_) => alpaca(record)?,
        None => {
            let names: Vec<String> = record.keys().take(8).map(|key| format!("`{key}`")).collect();
            return Err(format!("no conversation: it has {}", names.join(", ")));
        }
    };
    if !messages.iter().any(|it| it.role == "assistant" && !it.content.is_empty()) {
        return Err("no answer: none of its messages is the assistant's".to_owned());
    }
    Ok(messages)
}

/// A list of messages with their roles.
fn turns(list: &Value, key: &str) -> Result<Vec<Message>, String> {
    let Value::Array(list) = list else {
        return Err(format!("`{key}` is {}, not a list", kind(list)));
    };
    list.iter()
        .enumerate()
        .map(|(idx, turn)| Message::from_json(turn, &format!("{key}[{idx}]")))
        .collect()
}

/// `prompt` or `completion`: a text of `role`, or messages.
fn side(record: &Map<String, Value>, key: &str, role: &str) -> Result<Vec<Message>, String> {
    match record.get(key) {
        Some(Value::String(text)) => Ok(vec![Message::new(role, text.clone())]),
        Some(list @ Value::Array(_)) => turns(list, key),
        Some(other) => Err(format!("`{key}` is {}, not a string", kind(other))),
        None => Err(format!("no `{key}`")),
    }
}

/// The instruction with its input below it, and the output.
fn alpaca(record: &Map<String, Value>) -> Result<Vec<Message>, String> {
    let field = |key: &str| match record.get(key) {
        Some(Value::String(text)) => Ok(text.as_str()),
        None | Some(Value::Null) => Ok(""),
        Some(other) => Err(format!("`{key}` is {}, not a string", kind(other))),
    };
    let (system, instruction, input) = (field("system")?, field("instruction")?, field("input")?);
    let question =
        if input.is_empty() { instruction.to_owned() } else { format!("{instruction}\n\n{input}") };
    let mut messages = Vec::new();
    if !system.is_empty() {
        messages.push(Message::new("system", system));
    }
    messages.push(Message::new("user", question));
    messages.push(Message::new("assistant", field("output")?));
    Ok(messages)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_shape_is_the_same_conversation() {
        let turns =
            json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]);
        let shapes = [
            json!({"id": 3, "messages": turns}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text",
                "text": "i"}]}, {"role": "assistant", "content": "Hello", "weight": 1}]}),
            json!({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}),
            json!({"conversations": turns}),
            json!({"prompt": "Hi", "completion": "Hello"}),
            json!({"prompt": [turns[0]], "completion": [turns[1]]}),
            json!({"instruction": "Hi", "input": "", "output": "Hello"}),
            json!({"instruction": "Hi", "output": "Hello", "input": null}),
        ];
        for shape in shapes {
            let expected = [Message::new("user", "Hi"), Message::new("assistant", "Hello")];
            assert_eq!(messages_of(&shape).unwrap(), expected, "{shape}");
        }
        let alpaca = json!({"system": "S", "instruction": "Add.", "input": "1, 2", "output": "3"});
        let expected = [("system", "S"), ("user", "Add.\n\n1, 2"), ("assistant", "3")];
        assert_eq!(
            messages_of(&alpaca).unwrap(),
            expected.map(|(role, text)| Message::new(role, text))
        );
    }

    #[test]
    fn columns_of_conversations_are_known() {
        for (columns, expected) in [
            ("id messages", true),
            ("conversations", true),
            ("prompt completion", true),
            ("instruction input output", true),
            ("prompt text", false),
            ("completion", false),
            ("text", false),
        ] {
            let columns: Vec<String> = columns.split(' ').map(str::to_owned).collect();
            assert_eq!(are_conversations(&columns), expected, "{columns:?}");
        }
    }

    #[test]
    fn other_records_say_what_is_wrong() {
        let cases = [
            (json!([1]), "not an object but a list"),
            (json!({"text": "Once"}), "no conversation: it has `text`"),
            (json!({"messages": "Hi"}), "`messages` is a string, not a list"),
            (json!({"messages": [{"content": "Hi"}]}), "`messages[0]` has no `role`"),
            (json!({"messages": [{"role": "user"}]}), "`messages[0]` has no `content`"),
            (json!({"messages": [{"role": "user", "content": null}]}), "is null, not a string"),
            (
                json!({"messages": [{"role": "tool", "content": "1"}]}),
                "has the role `tool`, expected",
            ),
            (json!({"messages": [{"role": "user", "content": "Hi"}]}), "no answer"),
            (json!({"messages": []}), "no answer"),
            (json!({"messages": [{"role": "user", "content": [{"image": 1}]}]}), "not text"),
            (json!({"prompt": "Hi"}), "no `completion`"),
            (json!({"prompt": 3, "completion": "x"}), "`prompt` is a number"),
            (json!({"instruction": "Hi", "output": 4}), "`output` is a number"),
            (json!({"instruction": "Hi"}), "no answer"),
        ];
        for (record, expected) in cases {
            let what = messages_of(&record).unwrap_err();
            assert!(what.contains(expected), "{record}: {what}");
        }
    }
}
