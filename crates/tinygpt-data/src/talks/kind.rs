//! The kinds of questions.

use std::fmt;

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuestionKind {
    /// Hello, thanks and goodbye.
    Greeting,
    /// Pip: name, age, home, what it likes.
    Character,
    /// Pip's friends, the seasons, the lighthouse.
    World,
    /// The user is sad, tired, happy.
    Feeling,
    /// Sums and differences up to 10.
    Arithmetic,
    /// Counting up and down, numbers of legs and fingers.
    Counting,
    /// The opposite of a word.
    Opposite,
    /// The color of a thing.
    Color,
    /// The sound of an animal, or the animal of a sound.
    Sound,
    /// Days and months.
    Calendar,
    /// What Pip cannot know: the weather, the news, a password.
    Refusal,
    /// A joke in two turns.
    Joke,
    /// The user's name, given before.
    Name,
    /// The system message asks for one word.
    Instruction,
    /// The question needs the turn before it.
    FollowUp,
}

impl QuestionKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Greeting,
        Self::Character,
        Self::World,
        Self::Feeling,
        Self::Arithmetic,
        Self::Counting,
        Self::Opposite,
        Self::Color,
        Self::Sound,
        Self::Calendar,
        Self::Refusal,
        Self::Joke,
        Self::Name,
        Self::Instruction,
        Self::FollowUp,
    ];

    /// The word for this kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Character => "character",
            Self::World => "world",
            Self::Feeling => "feeling",
            Self::Arithmetic => "arithmetic",
            Self::Counting => "counting",
            Self::Opposite => "opposite",
            Self::Color => "color",
            Self::Sound => "sound",
            Self::Calendar => "calendar",
            Self::Refusal => "refusal",
            Self::Joke => "joke",
            Self::Name => "name",
            Self::Instruction => "instruction",
            Self::FollowUp => "follow-up",
        }
    }

    /// The kind that is named so in the script.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for QuestionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
