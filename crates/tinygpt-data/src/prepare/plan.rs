//! Everything that can be decided and checked before any text is read.

use crate::encoding::Encoding;
use crate::error::DataError;
use crate::hub;
use crate::prepared::{ChatSettings, Settings, ValSplit};
use crate::progress::PrepareProgress;
use crate::quote::escaped_excerpt;
use crate::recipe::{Recipe, check_val_fraction};
use crate::source::{Fields, ReadAs, Separator, Source};
use crate::tokenizer::{self, Tokenizer};

use super::PrepareRequest;
use super::origin::Origin;
use super::subset::Subset;

/// What will be prepared.
pub(super) struct Plan {
    pub(super) dataset: String,
    pub(super) origin: Origin,
    pub(super) encoding: Encoding,
    /// A tokenizer to use in place of a new one.
    pub(super) reused: Option<Tokenizer>,
    /// The fraction to validate on, if the origin has no validation split.
    pub(super) val_fraction: f64,
    pub(super) val_split: ValSplit,
    /// Whether each split of the source is one document, even if it has many records.
    pub(super) is_one_document: bool,
    /// All settings but the description of the source, which `Origin::describe` computes.
    pub(super) settings: Settings,
    /// How the text is taken out of the files.
    pub(super) read_as: ReadAs,
}

impl Plan {
    /// Puts the request and the recipe together, and checks them.
    ///
    /// No text is downloaded for that, only a tokenizer on the hub.
    pub(super) fn of(
        request: &PrepareRequest,
        progress: &dyn PrepareProgress,
    ) -> Result<Self, DataError> {
        let recipe = find_recipe(request)?;
        Subset::new(request.data_percentage, request.seed)?;
        let val_fraction = request.val_fraction.unwrap_or(recipe.val_fraction);
        check_val_fraction(val_fraction)?;
        let val_split = request.val_split.unwrap_or(recipe.val_split);
        let reused = reused_tokenizer(request, &recipe, progress)?;
        let encoding = encoding_of(request, &recipe, reused.as_ref())?;
        let trains_bpe = encoding == Encoding::Bpe && reused.is_none();
        if trains_bpe {
            tokenizer::check_bpe_vocab_size(request.vocab_size)?;
        }
        let is_chat = request.chat || recipe.chat;
        check_chat(request, is_chat)?;
        let text_column = request.text_column.clone().unwrap_or(recipe.text_column.clone());
        let read_as = read_as(request, &text_column, is_chat)?;
        let origin = Origin::of(&recipe, request, progress)?;
        let is_one_document = recipe.source.is_one_document() && request.source.is_none();
        if !request.keep_downloads {
            check_by_file(&origin, is_one_document, encoding, reused.is_some())?;
        }
        let has_validation = origin.has_validation();
        let is_drawn = val_split == ValSplit::Random && !has_validation;
        let settings = Settings {
            // Computed later, since it takes time.
            source: String::new(),
            lossy: request.lossy,
            format: request.format.map(|format| format.to_string()),
            separator: (request.separator != Separator::default())
                .then(|| request.separator.to_string()),
            text_column,
            text_template: request.text_template.clone(),
            chat: is_chat.then_some(ChatSettings { mask_prompt: request.mask_prompt }),
            parse_special: request.parse_special,
            val_fraction: (!has_validation).then_some(val_fraction),
            val_split: if is_drawn { ValSplit::Random } else { ValSplit::End },
            vocab_size: trains_bpe.then_some(request.vocab_size),
            tokenizer: reused.as_ref().map(|tokenizer| tokenizer.sha256().to_owned()),
            data_percentage: request.data_percentage,
            seed: (request.data_percentage < 100.0 || is_drawn).then_some(request.seed),
        };
        let dataset = recipe.name;
        Ok(Self {
            dataset,
            origin,
            encoding,
            reused,
            val_fraction,
            val_split,
            is_one_document,
            settings,
            read_as,
        })
    }
}

impl Plan {
    /// The settings with the description of the source.
    pub(super) fn settings_with(&self, source: String) -> Settings {
        Settings { source, ..self.settings.clone() }
    }
}

/// Refuses what has no effect on conversations, and what has an effect on them only.
fn check_chat(request: &PrepareRequest, is_chat: bool) -> Result<(), DataError> {
    let of_text = [
        ("text_column", request.text_column.is_some()),
        ("text_template", request.text_template.is_some()),
        ("separator", request.separator != Separator::default()),
        ("parse_special", request.parse_special),
    ];
    match of_text.into_iter().find(|(_, is_set)| is_chat && *is_set) {
        Some((key, _)) => Err(DataError::usage(
            format!("`{key}` is set, but the records are conversations"),
            format!("leave `{key}` out: the chat template makes the text"),
        )),
        None if !is_chat && !request.mask_prompt => Err(DataError::usage(
            "`mask_prompt` is false, but the records are not conversations",
            "leave `mask_prompt` out, or set `chat`",
        )),
        None => Ok(()),
    }
}

/// Refuses what cannot be prepared file by file.
fn check_by_file(
    origin: &Origin,
    is_one_document: bool,
    encoding: Encoding,
    has_tokenizer: bool,
) -> Result<(), DataError> {
    let (what, fix) = if !matches!(origin, Origin::Hub(_)) {
        ("the text is not downloaded from the hub", "leave `keep_downloads` out")
    } else if is_one_document {
        ("all files of the dataset are one document", "leave `keep_downloads` out")
    } else if encoding == Encoding::Simple && !has_tokenizer {
        let fix = "set `encoding_type` to `bpe`, or name a `tokenizer`";
        ("the characters are known only when all files were read", fix)
    } else {
        return Ok(());
    };
    Err(DataError::usage(format!("`keep_downloads` is false, but {what}"), fix))
}

/// How the text is taken out of the files.
fn read_as(
    request: &PrepareRequest,
    text_column: &str,
    is_chat: bool,
) -> Result<ReadAs, DataError> {
    let max_bad_fraction = request.max_bad_fraction;
    if !(0.0..=1.0).contains(&max_bad_fraction) {
        return Err(DataError::usage(
            format!("max_bad_fraction is {max_bad_fraction}"),
            "give a number from 0 to 1, for example 0.01",
        ));
    }
    let fields = match (&request.text_template, &request.text_column) {
        (Some(_), Some(_)) => {
            return Err(DataError::usage(
                "`text_column` cannot be combined with `text_template`",
                "give one of them: a template names the columns itself",
            ));
        }
        (Some(template), None) => Fields::template(template)?,
        (None, _) => Fields::column(text_column),
    };
    let (separator, lossy) = (request.separator.clone(), request.lossy);
    Ok(ReadAs { fields, separator, lossy, max_bad_fraction, is_chat })
}

/// The tokenizer to use in place of a new one, from this machine or the hub.
fn reused_tokenizer(
    request: &PrepareRequest,
    recipe: &Recipe,
    progress: &dyn PrepareProgress,
) -> Result<Option<Tokenizer>, DataError> {
    // Who names an encoding wants a new tokenizer of that kind.
    let of_recipe = recipe.tokenizer.as_deref().filter(|_| request.encoding_type.is_none());
    let path = match request.tokenizer.clone().or(of_recipe.map(Source::from)) {
        None => return Ok(None),
        Some(Source::Stdin) => {
            return Err(DataError::usage(
                "tokenizer is `-`",
                "give the path of a tokenizer: it is not read from standard input",
            ));
        }
        Some(Source::Path(path)) => path,
        Some(Source::Hub { repository, folder, revision }) => {
            let at =
                |name: &&str| folder.as_ref().map_or((*name).into(), |at| format!("{at}/{name}"));
            let optional = tokenizer::OPTIONAL_FILES.each_ref().map(at);
            let optional = optional.each_ref().map(String::as_str);
            let names: Vec<Vec<String>> =
                tokenizer::FILE_SETS.iter().map(|set| set.iter().map(at).collect()).collect();
            let names: Vec<Vec<&str>> =
                names.iter().map(|set| set.iter().map(String::as_str).collect()).collect();
            let names: Vec<&[&str]> = names.iter().map(Vec::as_slice).collect();
            let hub = &request.hub;
            let files = (names.as_slice(), optional.as_slice());
            let paths = hub::fetch_model_files(&repository, &revision, files, hub, progress)?;
            paths.into_iter().next().unwrap_or_default()
        }
    };
    Tokenizer::from_path(path).map(Some)
}

/// The recipe of the request's dataset; it need not exist if the request names a source.
fn find_recipe(request: &PrepareRequest) -> Result<Recipe, DataError> {
    let known = Recipe::names(&request.data_dir).contains(&request.dataset_name);
    if request.source.is_some() && !known {
        return Recipe::for_given_source(&request.dataset_name);
    }
    let recipe = Recipe::find(&request.dataset_name, &request.data_dir)?;
    if request.source.is_some() && !recipe.takes_source() {
        return Err(DataError::usage(
            format!("dataset `{}` has its own text, but `source` names another", recipe.name),
            "leave `source` out, or set `dataset_name` to another name",
        ));
    }
    Ok(recipe)
}

/// The encoding: that of the reused tokenizer, or else the requested one, or else the recipe's.
fn encoding_of(
    request: &PrepareRequest,
    recipe: &Recipe,
    reused: Option<&Tokenizer>,
) -> Result<Encoding, DataError> {
    match (request.encoding_type, reused.map(Tokenizer::encoding)) {
        (Some(asked), Some(found)) if asked != found => Err(DataError::usage(
            format!("encoding_type is `{asked}` but the tokenizer to reuse is `{found}`"),
            format!("leave encoding_type out, or set it to `{found}`"),
        )),
        (asked, found) => Ok(found.or(asked).unwrap_or(recipe.encoding)),
    }
}

/// Each setting that differs, as `key: there → asked`.
pub(super) fn differences(there: &Settings, asked: &Settings) -> Vec<String> {
    let show = |key: &str, there: String, asked: String| {
        (there != asked)
            .then(|| format!("{key}: {} → {}", escaped_excerpt(&there), escaped_excerpt(&asked)))
    };
    fn option<T: std::fmt::Display>(value: &Option<T>) -> String {
        value.as_ref().map_or("none".to_owned(), T::to_string)
    }
    let (source, other_source) = first_difference(&there.source, &asked.source);
    [
        show("source", source, other_source),
        show("format", option(&there.format), option(&asked.format)),
        show("separator", option(&there.separator), option(&asked.separator)),
        show("lossy", there.lossy.to_string(), asked.lossy.to_string()),
        show("text_column", there.text_column.clone(), asked.text_column.clone()),
        show("text_template", option(&there.text_template), option(&asked.text_template)),
        show("chat", there.chat.is_some().to_string(), asked.chat.is_some().to_string()),
        show("mask_prompt", mask_prompt(there), mask_prompt(asked)),
        show("parse_special", there.parse_special.to_string(), asked.parse_special.to_string()),
        show("val_fraction", option(&there.val_fraction), option(&asked.val_fraction)),
        show("val_split", there.val_split.to_string(), asked.val_split.to_string()),
        show("vocab_size", option(&there.vocab_size), option(&asked.vocab_size)),
        show("tokenizer", option(&there.tokenizer), option(&asked.tokenizer)),
        show(
            "data_percentage",
            there.data_percentage.to_string(),
            asked.data_percentage.to_string(),
        ),
        show("seed", option(&there.seed), option(&asked.seed)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether only answers are learned; none of plain text.
fn mask_prompt(settings: &Settings) -> String {
    settings.chat.as_ref().map_or("none".to_owned(), |chat| chat.mask_prompt.to_string())
}

/// The first files in which two descriptions of a source differ.
fn first_difference(there: &str, asked: &str) -> (String, String) {
    const BETWEEN: &str = "), ";
    let (mut there, mut asked) = (there.split(BETWEEN), asked.split(BETWEEN));
    loop {
        match (there.next(), asked.next()) {
            (None, None) => return (String::new(), String::new()),
            (a, b) if a == b => {}
            (a, b) => {
                let show = |it: Option<&str>| it.map_or("none".to_owned(), str::to_owned);
                return (show(a), show(b));
            }
        }
    }
}
