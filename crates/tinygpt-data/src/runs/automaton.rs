//! The suffix automaton of some sequences: the smallest graph whose paths from the root spell exactly
//! their runs of tokens (Blumer et al. 1985).
//!
//! A state stands for runs that end at the same places of the sequences. Of these, the longest has the
//! state's length, each other one is an end of it, and the next shorter run is that of the state's
//! link. Reading one more token of any stream takes constant time on average.

/// The state of the empty run.
pub(super) const ROOT: u32 = 0;

/// No state.
const NONE: u32 = u32::MAX;

struct State {
    /// The length of its longest run.
    len: u32,
    link: u32,
    /// The states after one more token, by token.
    next: Vec<(u64, u32)>,
}

/// The automaton of some sequences.
pub(super) struct Automaton {
    lens: Vec<u32>,
    links: Vec<u32>,
    /// The states after one token.
    first: Vec<u32>,
    /// The states after one more token, for all states but the root: open addressing.
    table: Vec<(u64, u32)>,
    mask: usize,
}

/// A place that the table does not use.
const FREE: u64 = u64::MAX;

impl Automaton {
    /// The automaton of `sequences`, whose tokens are below `vocab_size`.
    pub(super) fn new(sequences: &[Vec<u32>], vocab_size: usize) -> Self {
        let mut states = vec![State { len: 0, link: NONE, next: Vec::new() }];
        let mut last = ROOT;
        for (index, sequence) in sequences.iter().enumerate() {
            // Separators are larger than all ids, and no two are equal: no run crosses one.
            let separator = u64::from(u32::MAX) + 1 + index as u64;
            let tokens = sequence.iter().map(|id| u64::from(*id)).chain([separator]);
            for token in tokens {
                last = extend(&mut states, last, token);
            }
        }
        Self::flat(&states, vocab_size)
    }

    fn flat(states: &[State], vocab_size: usize) -> Self {
        let n_edges: usize = states.iter().map(|state| state.next.len()).sum();
        let mask = (2 * n_edges.max(1)).next_power_of_two() - 1;
        let mut flat = Self {
            lens: states.iter().map(|state| state.len).collect(),
            links: states.iter().map(|state| state.link).collect(),
            first: vec![ROOT; vocab_size],
            table: vec![(FREE, NONE); mask + 1],
            mask,
        };
        for (from, state) in states.iter().enumerate() {
            let ids = state.next.iter().filter(|(token, _)| *token <= u64::from(u32::MAX));
            for &(token, to) in ids {
                if from == ROOT as usize {
                    flat.first[token as usize] = to;
                    continue;
                }
                let key = key(from as u32, token as u32);
                let mut place = hash(key) & mask;
                while flat.table[place].0 != FREE {
                    place = (place + 1) & mask;
                }
                flat.table[place] = (key, to);
            }
        }
        flat
    }

    /// The number of states.
    pub(super) fn n_states(&self) -> usize {
        self.lens.len()
    }

    /// The length of the longest run of `state`.
    pub(super) fn len(&self, state: u32) -> u32 {
        self.lens[state as usize]
    }

    /// The state of the longest end of its runs that is not among them; `None` for the root.
    pub(super) fn link(&self, state: u32) -> Option<u32> {
        Some(self.links[state as usize]).filter(|link| *link != NONE)
    }

    /// The longest end of a run and `id` that is in the sequences, from the run's state and length.
    #[inline]
    pub(super) fn step(&self, (mut state, mut len): (u32, u32), id: u32) -> (u32, u32) {
        while state != ROOT {
            if let Some(next) = self.next(state, id) {
                return (next, len + 1);
            }
            state = self.links[state as usize];
            len = self.lens[state as usize];
        }
        match self.first.get(id as usize) {
            Some(&next) if next != ROOT => (next, 1),
            _ => (ROOT, 0),
        }
    }

    #[inline]
    fn next(&self, state: u32, id: u32) -> Option<u32> {
        let key = key(state, id);
        let mut place = hash(key) & self.mask;
        loop {
            match self.table[place] {
                (found, next) if found == key => return Some(next),
                (FREE, _) => return None,
                _ => place = (place + 1) & self.mask,
            }
        }
    }
}

fn key(state: u32, id: u32) -> u64 {
    u64::from(state) << 32 | u64::from(id)
}

/// Multiplicative hashing (Knuth 1973, section 6.4), with the high bits, which depend on all others.
fn hash(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

/// Adds `token` after the whole text, whose state is `last`; returns the new state of the whole text.
fn extend(states: &mut Vec<State>, last: u32, token: u64) -> u32 {
    let new = states.len() as u32;
    let len = states[last as usize].len + 1;
    states.push(State { len, link: ROOT, next: Vec::new() });
    let mut from = last;
    while from != NONE {
        let state = &mut states[from as usize];
        match state.next.binary_search_by_key(&token, |(token, _)| *token) {
            Err(place) => state.next.insert(place, (token, new)),
            Ok(place) => {
                let to = state.next[place].1;
                states[new as usize].link = split(states, (from, to), token);
                break;
            }
        }
        from = states[from as usize].link;
    }
    new
}

/// The state of the runs of `from` with `token`, which lead to `to`: `to` itself, or a copy for the
/// shorter of its runs.
fn split(states: &mut Vec<State>, (mut from, to): (u32, u32), token: u64) -> u32 {
    let len = states[from as usize].len + 1;
    if states[to as usize].len == len {
        return to;
    }
    let copy = states.len() as u32;
    let (link, next) = (states[to as usize].link, states[to as usize].next.clone());
    states.push(State { len, link, next });
    states[to as usize].link = copy;
    while from != NONE {
        let state = &mut states[from as usize];
        match state.next.binary_search_by_key(&token, |(token, _)| *token) {
            Ok(place) if state.next[place].1 == to => state.next[place].1 = copy,
            _ => break,
        }
        from = states[from as usize].link;
    }
    copy
}
