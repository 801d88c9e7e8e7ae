//! Puts a script together from the parts of the library that it uses, with the constants written in.
//!
//! Redis runs a script's whole text at every call: each function that is defined costs a closure, each name that functions
//! share an upvalue, which Lua looks for among all others. Without what a script does not need, and with `1` in the place of
//! `STATUS`, a call of one job costs half.

use std::collections::{HashMap, HashSet};

/// A constant's name and the text of its value.
type Constants = HashMap<String, String>;

/// What scripts may use.
pub(super) struct Library {
    constants: Constants,
    statements: Vec<Statement>,
}

struct Statement {
    source: String,
    declared: Vec<String>,
    used: Vec<String>,
}

impl Library {
    /// Reads `local` statements, each from its line at the left margin to the next. What reads in a line like
    /// `local ONE, NAME = 1, 'text'` is a constant.
    pub(super) fn new(source: &str) -> Self {
        let mut constants = Constants::new();
        let source = without_constants(source, &mut constants);
        let statements = statements(&source).into_iter().map(|source| {
            let declared = declared(&source).map(str::to_owned).collect();
            let used = names(&source).map(str::to_owned).collect();
            Statement { source: written_in(&source, &constants), declared, used }
        });
        Self { statements: statements.collect(), constants }
    }

    /// The text of a script: what `body` needs of the library, and `body`, which may have constants of its own.
    pub(super) fn assemble(&self, body: &str) -> String {
        let mut constants = self.constants.clone();
        let body = without_constants(body, &mut constants);
        let mut used: HashSet<&str> = names(&body).collect();
        // Whoever uses a name stands below it.
        let mut needed = Vec::new();
        for statement in self.statements.iter().rev() {
            if statement.declared.iter().any(|name| used.contains(name.as_str())) {
                used.extend(statement.used.iter().map(String::as_str));
                needed.push(statement.source.as_str());
            }
        }
        needed.into_iter().rev().chain([written_in(&body, &constants).as_str()]).collect()
    }
}

/// Moves the lines of constants into `constants`.
fn without_constants(source: &str, constants: &mut Constants) -> String {
    let rest = source.lines().filter(|line| match constants_of(line) {
        Some(found) => {
            constants.extend(found.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
            false
        }
        None => true,
    });
    rest.flat_map(|line| [line, "\n"]).collect()
}

fn constants_of(line: &str) -> Option<Vec<(&str, &str)>> {
    let (names, values) = line.strip_prefix("local ")?.split_once(" = ")?;
    let (names, values): (Vec<_>, Vec<_>) = (names.split(", ").collect(), values.split(", ").collect());
    let upper =
        |name: &&str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let literal = |value: &&str| {
        value.bytes().all(|byte| byte.is_ascii_digit())
            || value
                .strip_prefix('\'')
                .and_then(|rest| rest.strip_suffix('\''))
                .is_some_and(|text| !text.contains('\''))
    };
    let all = names.len() == values.len() && names.iter().all(upper) && values.iter().all(literal);
    all.then(|| names.into_iter().zip(values).collect())
}

/// The library's statements, without the comments between them.
fn statements(library: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    for line in library.lines().filter(|line| !line.is_empty() && !line.starts_with("--")) {
        if line.starts_with("local ") {
            statements.push(String::new());
        }
        let statement = statements.last_mut().expect("the library has nothing but `local` statements");
        statement.push_str(line);
        statement.push('\n');
    }
    statements
}

/// The names that a `local` statement declares.
fn declared(statement: &str) -> impl Iterator<Item = &str> {
    let line = statement.lines().next().unwrap_or_default().trim_start_matches("local ");
    let names = match line.strip_prefix("function ") {
        Some(function) => function.split('(').next(),
        None => line.split(" = ").next(),
    };
    names.unwrap_or_default().split(", ")
}

fn names(source: &str) -> impl Iterator<Item = &str> {
    tokens(source).filter(|token| token.starts_with(is_name))
}

fn written_in(source: &str, constants: &Constants) -> String {
    tokens(source).map(|token| constants.get(token).map_or(token, String::as_str)).collect()
}

fn is_name(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

/// Lua's source cut into names and numbers, whole texts, whole comments, and single characters.
fn tokens(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let length = match first {
            '\'' => text_length(rest),
            _ if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            _ if is_name(first) => rest.find(|char| !is_name(char)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at(length);
        rest = behind;
        Some(token)
    })
}

/// How long the text is that `source` begins with, quotes included.
fn text_length(source: &str) -> usize {
    let mut escaped = false;
    let end = source.char_indices().skip(1).find(|(_, char)| {
        let ends = *char == '\'' && !escaped;
        escaped = *char == '\\' && !escaped;
        ends
    });
    end.map_or(source.len(), |(index, quote)| index + quote.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::Library;

    fn assemble(library: &str, body: &str) -> String {
        Library::new(library).assemble(body)
    }

    #[test]
    fn constants_are_written_where_their_names_stand_but_not_in_texts_and_comments() {
        let body = "local MINE = '>I6'\nreturn { ONE, 'ONE \\' ONE', TWO .. MINE } -- ONE\n";
        let source = assemble("local ONE, TWO = 1, 'two'\n", body);
        assert_eq!(source, "return { 1, 'ONE \\' ONE', 'two' .. '>I6' } -- ONE\n");
    }

    #[test]
    fn of_the_library_stays_what_is_used_and_what_that_uses() {
        let library = "-- lib: a fragment.\nlocal base = KEYS[1]\nlocal a, b = {}, {}\n\n-- Unused.\nlocal function unused()\n  \
                       return base\nend\n\nlocal function used()\n  return b\nend\n";
        let source = assemble(library, "-- body\nreturn used()\n");
        assert_eq!(source, "local a, b = {}, {}\nlocal function used()\n  return b\nend\n-- body\nreturn used()\n");
    }

    #[test]
    fn what_is_no_constant_stays() {
        let body = "local BASE, ONE = KEYS[1], 1\nlocal TABLE = { 1 }\nreturn BASE\n";
        assert_eq!(assemble("", body), body);
    }
}
