//! `sample --grade tiny_talks`: which share of held-out questions the model answers rightly.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value, json};
use tinygpt_data::talks::{Question, QuestionKind, Talks};
use tinygpt_model::{Model, SamplingParams, generate};

use super::chat::template_of;
use super::grade::share_with_error;
use super::load::LoadedModel;
use crate::exit::Ended;
use crate::options::SampleSettings;
use crate::terminal::{Output, grouped};

/// The seed of the built-in conversations, whose held-out questions are asked.
const SEED: u64 = 1337;

/// More tokens than the longest right answer has.
const MAX_ANSWER_TOKENS: usize = 64;

/// The questions of one kind.
#[derive(Default)]
struct Tally {
    n_asked: u64,
    n_right: u64,
    /// The first question with a wrong answer, and that answer.
    wrong: Option<(String, String)>,
}

/// Asks the questions, takes the most likely answer to each, and prints the share of right ones.
///
/// # Errors
/// A model without a chat template, or that cannot be computed with; an output that cannot be written.
pub(super) fn grade(
    loaded: &LoadedModel<Box<dyn Model>>,
    settings: &SampleSettings,
    out: &mut Output,
) -> Result<Ended> {
    let LoadedModel { tokenizer, model, .. } = loaded;
    let template = template_of(tokenizer)?;
    let params = SamplingParams {
        temperature: 0.0,
        max_new_tokens: MAX_ANSWER_TOKENS,
        ..settings.params(tokenizer, Some(template.end_of_turn(tokenizer)?))
    };
    let most = model.config().block_size.saturating_sub(MAX_ANSWER_TOKENS);
    let mut kinds = BTreeMap::<&str, Tally>::new();
    for question in Talks::new(SEED).questions(settings.num_samples as usize) {
        let (prompt, _) = template.prompt_ids_within(tokenizer, &question.messages, most)?;
        let mut ids = generate(&**model, &prompt, &params)?.tokens;
        ids.retain(|id| Some(*id) != params.eos);
        let answer = tokenizer.decode(&ids)?;
        kinds.entry(question.kind.name()).or_default().add(&question, answer);
    }
    let n_asked: u64 = kinds.values().map(|it| it.n_asked).sum();
    let n_right: u64 = kinds.values().map(|it| it.n_right).sum();
    let (share, error) = share_with_error(n_right, n_asked);
    if settings.json {
        let kind = |(name, it): (&&str, &Tally)| {
            ((*name).to_owned(), json!({"n_asked": it.n_asked, "n_right": it.n_right}))
        };
        let object = json!({
            "grade": "tiny_talks",
            "n_questions": n_asked,
            "n_right": n_right,
            "right": share,
            "standard_error": error,
            "kinds": kinds.iter().map(kind).collect::<Map<String, Value>>(),
        });
        out.print(&format!("{object}\n"))?;
        return Ok(Ended::Done);
    }
    let mut text = format!(
        "right: {} of {} answers, {:.1}% ± {:.1}%\n",
        grouped(n_right),
        grouped(n_asked),
        100.0 * share,
        100.0 * error
    );
    for kind in QuestionKind::ALL {
        let Some(Tally { n_asked, n_right, wrong }) = kinds.get(kind.name()) else { continue };
        let example = wrong.as_ref().map(|(question, answer)| format!("  {question} {answer}"));
        let (kind, example) = (kind.name(), example.unwrap_or_default());
        text.push_str(&format!("{kind:12} {n_right:>3} of {n_asked:>3}{example}\n"));
    }
    out.print(&text)?;
    Ok(Ended::Done)
}

impl Tally {
    fn add(&mut self, question: &Question, answer: String) {
        self.n_asked += 1;
        if question.is_right(&answer) {
            self.n_right += 1;
        } else {
            let asked = question.messages.last().map(|it| it.content.clone()).unwrap_or_default();
            self.wrong.get_or_insert((format!("{asked:?}"), format!("{answer:?}")));
        }
    }
}
