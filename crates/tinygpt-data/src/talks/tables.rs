//! The tables that computed questions draw from.

pub(super) use crate::clock::MONTHS;

pub(super) const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

pub(super) const NUMBER_WORDS: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// Names of users: few, because a small model learns late to copy a name.
pub(super) const NAMES: [&str; 8] = ["Anna", "Ben", "Clara", "David", "Emma", "Leo", "Nina", "Sam"];

pub(super) const OPPOSITES: [(&str, &str); 18] = [
    ("big", "small"),
    ("hot", "cold"),
    ("up", "down"),
    ("fast", "slow"),
    ("happy", "sad"),
    ("day", "night"),
    ("old", "new"),
    ("light", "dark"),
    ("open", "closed"),
    ("wet", "dry"),
    ("full", "empty"),
    ("long", "short"),
    ("hard", "soft"),
    ("left", "right"),
    ("loud", "quiet"),
    ("clean", "dirty"),
    ("strong", "weak"),
    ("near", "far"),
];

pub(super) const COLORS: [(&str, &str); 16] = [
    ("grass", "green"),
    ("the sky", "blue"),
    ("the sun", "yellow"),
    ("snow", "white"),
    ("milk", "white"),
    ("a banana", "yellow"),
    ("a lemon", "yellow"),
    ("a tomato", "red"),
    ("a carrot", "orange"),
    ("a pumpkin", "orange"),
    ("a pig", "pink"),
    ("an elephant", "gray"),
    ("a leaf", "green"),
    ("a frog", "green"),
    ("a rose", "red"),
    ("a crow", "black"),
];

pub(super) const SOUNDS: [(&str, &str); 12] = [
    ("a cow", "moo"),
    ("a dog", "woof"),
    ("a cat", "meow"),
    ("a sheep", "baa"),
    ("a duck", "quack"),
    ("a pig", "oink"),
    ("an owl", "hoot"),
    ("a lion", "roar"),
    ("a bee", "buzz"),
    ("a snake", "hiss"),
    ("a bird", "tweet"),
    ("a mouse", "squeak"),
];

/// A friend of Pip.
pub(super) struct Friend {
    pub(super) name: &'static str,
    pub(super) he: &'static str,
    pub(super) his: &'static str,
    /// One cell for each of [`FRIEND_COLUMNS`].
    pub(super) cells: [&'static str; 6],
}

/// What is known of a friend: patterns `friend …`.
pub(super) const FRIEND_COLUMNS: [(&str, &str); 6] = [
    ("friend who", "animal"),
    ("friend color", "color"),
    ("friend food", "food"),
    ("friend home", "home"),
    ("friend job", "job"),
    ("friend age", "age"),
];

pub(super) const FRIENDS: [Friend; 4] = [
    Friend {
        name: "Luna",
        he: "she",
        his: "her",
        cells: ["owl", "white", "cherries", "in a tall tree", "counts the stars", "nine"],
    },
    Friend {
        name: "Bruno",
        he: "he",
        his: "his",
        cells: ["bear", "black", "honey", "in a cave", "carries wood", "twelve"],
    },
    Friend {
        name: "Mila",
        he: "she",
        his: "her",
        cells: ["mouse", "gray", "cheese", "under the stairs", "makes hats", "three"],
    },
    Friend {
        name: "Walter",
        he: "he",
        his: "his",
        cells: ["whale", "blue", "seaweed", "in the deep sea", "sings songs", "forty"],
    },
];

/// Every name and cell of the friends.
pub(super) fn friend_terms() -> impl Iterator<Item = &'static str> {
    FRIENDS.iter().flat_map(|friend| friend.cells.into_iter().chain([friend.name]))
}
