//! From text to a filter: words and parentheses, `not` before `and` before `or`.

use fixture::scenario::Role;

use super::{Filter, FilterError, Pattern, named};

/// How deep parentheses and `not` may be nested.
const DEEPEST: usize = 100;

/// What may be asked of a test.
const QUESTIONS: &str = "name(…), role(…), tag(…), clock(…), all()";

/// Parses a filter.
pub fn parse(text: &str) -> Result<Filter, FilterError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let filter = parser.or()?;
    match parser.peek() {
        Token::End => Ok(filter),
        Token::Close => Err(parser.error("this `)` closes nothing; remove it, or add a `(`")),
        Token::Open | Token::Word(_) => {
            Err(parser.error("two filters stand side by side; put `and` or `or` between them"))
        }
        Token::Other(other) => Err(parser.stranger(other)),
    }
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    Word(&'a str),
    Other(char),
    End,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// What a word is made of: names and globs.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "-_.*?[]=".contains(c)
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Filter, FilterError> {
        let mut filter = self.and()?;
        while self.skip_word("or") {
            filter = Filter::Or(filter.into(), self.and()?.into());
        }
        Ok(filter)
    }

    fn and(&mut self) -> Result<Filter, FilterError> {
        let mut filter = self.not()?;
        while self.skip_word("and") {
            filter = Filter::And(filter.into(), self.not()?.into());
        }
        Ok(filter)
    }

    fn not(&mut self) -> Result<Filter, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error("this is nested too deep to be meant"));
        }
        let filter = match self.peek() {
            Token::Word("not") => {
                self.skip_word("not");
                Filter::Not(self.not()?.into())
            }
            Token::Word(word @ ("and" | "or")) => {
                let message = format!("`{word}` stands between two filters; one is missing here");
                return Err(self.error(message));
            }
            Token::Word(word) => self.question(word)?,
            Token::Open => {
                let open = self.at;
                self.skip(1);
                let filter = self.or()?;
                self.close(open)?;
                filter
            }
            Token::Close => return Err(self.error("a filter is missing before this `)`")),
            Token::End if self.text.trim().is_empty() => {
                return Err(
                    self.error(format!("the filter is empty; write a part of a name, or {QUESTIONS}"))
                );
            }
            Token::End => return Err(self.error("a filter is missing at the end")),
            Token::Other(other) => return Err(self.stranger(other)),
        };
        self.depth -= 1;
        Ok(filter)
    }

    /// `name(…)` and the like, or a word, which is meant as a name.
    fn question(&mut self, word: &'a str) -> Result<Filter, FilterError> {
        let at = self.at;
        self.skip(word.len());
        // Only what follows without a gap belongs to it: `a (b)` is two filters.
        if !self.text[self.at..].starts_with('(') {
            return Ok(Filter::Name(self.pattern(word, at, Pattern::Holds)?));
        }
        let open = self.at;
        self.skip(1);
        let asked = match (self.peek(), word) {
            (Token::Close, "all") => None,
            (_, "all") => return Err(self.error("all() means every test; it takes nothing")),
            (Token::Word(asked), "name" | "role" | "tag" | "clock") => Some((asked, self.at)),
            (_, "name" | "role" | "tag" | "clock") => {
                return Err(self.error(format!("{word}(…) asks for one word")));
            }
            _ => {
                let message = format!("`{word}` is nothing that can be asked; use {QUESTIONS}");
                return Err(FilterError { text: self.text.into(), at, message });
            }
        };
        let filter = match asked {
            None => Filter::All,
            Some((asked, at)) => {
                self.skip(asked.len());
                self.asked(word, asked, at)?
            }
        };
        self.close(open)?;
        Ok(filter)
    }

    fn asked(&self, question: &str, word: &str, at: usize) -> Result<Filter, FilterError> {
        let wrong = |message: String| FilterError { text: self.text.into(), at, message };
        Ok(match question {
            "name" => Filter::Name(self.pattern(word, at, Pattern::Holds)?),
            "tag" => Filter::Tag(self.pattern(word, at, Pattern::Is)?),
            "role" => {
                let pattern = self.pattern(word, at, Pattern::Is)?;
                if let Pattern::Is(word) = &pattern {
                    // A role that is misspelt would silently mean no test.
                    named::<Role>(word).map_err(wrong)?;
                }
                Filter::Role(pattern)
            }
            _ => Filter::Clock(named(word).map_err(wrong)?),
        })
    }

    fn pattern(&self, word: &str, at: usize, plain: fn(String) -> Pattern) -> Result<Pattern, FilterError> {
        let wrong = |at: usize, message: String| FilterError { text: self.text.into(), at, message };
        if let Some(whole) = word.strip_prefix('=') {
            return match whole.contains(['=', '*', '?', '[', ']']) || whole.is_empty() {
                true => Err(wrong(at, format!("`{word}` has no plain name after its `=`"))),
                false => Ok(Pattern::Is(whole.to_owned())),
            };
        }
        if let Some(sign) = word.find('=') {
            return Err(wrong(at + sign, "`=` stands only before a whole name, as in name(=small)".into()));
        }
        if !word.contains(['*', '?', '[', ']']) {
            return Ok(plain(word.to_owned()));
        }
        glob::Pattern::new(word).map(Pattern::Glob).map_err(|error| {
            // It counts in characters.
            let offset = word.char_indices().nth(error.pos).map_or(0, |(offset, _)| offset);
            wrong(at + offset, format!("the glob is wrong: {}", error.msg))
        })
    }

    fn close(&mut self, open: usize) -> Result<(), FilterError> {
        match self.peek() {
            Token::Close => {
                self.skip(1);
                Ok(())
            }
            Token::End => Err(FilterError {
                text: self.text.into(),
                at: open,
                message: "this `(` is not closed; add a `)`".into(),
            }),
            Token::Other(other) => Err(self.stranger(other)),
            Token::Open | Token::Word(_) => Err(self.error("a `)` is missing before this")),
        }
    }

    /// The next piece; the parser stands before it then.
    fn peek(&mut self) -> Token<'a> {
        let rest = &self.text[self.at..];
        let rest = {
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            trimmed
        };
        match rest.chars().next() {
            None => Token::End,
            Some('(') => Token::Open,
            Some(')') => Token::Close,
            Some(c) if is_word(c) => Token::Word(&rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]),
            Some(c) => Token::Other(c),
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let is_it = self.peek() == Token::Word(word);
        if is_it {
            self.skip(word.len());
        }
        is_it
    }

    fn stranger(&self, other: char) -> FilterError {
        let mend = match other {
            '&' => "write `and`",
            '|' | ',' => "write `or`",
            '!' => "write `not`",
            _ => "names are letters, digits, `-`, `_`, `.`, and `*`, `?`, `[…]` in globs",
        };
        self.error(format!("`{other}` means nothing here; {mend}"))
    }

    fn error(&self, message: impl Into<String>) -> FilterError {
        FilterError { text: self.text.into(), at: self.at, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture::scenario::Clock;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_meant_is_refused_at_its_place() {
        let wrong = [
            "",
            "vlan lldp",
            "vlan and",
            "or vlan",
            "not",
            "vlan & lldp",
            "(vlan or lldp",
            "vlan)",
            "()",
            "nmae(vlan)",
            "name()",
            "name(a b)",
            "role(brige)",
            "clock(fake)",
            "all(x)",
            "tag([a)",
            "tag(ä[)",
            "name(=)",
            "a=b",
            "vlan § lldp",
        ];
        let told: Vec<_> = wrong.iter().map(|text| parse(text).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(told.join("\n\n"));
        let deep = "(".repeat(100_000);
        assert!(parse(&deep).unwrap_err().message.contains("too deep"));
    }

    fn filters() -> impl Strategy<Value = Filter> {
        let pattern = |plain: fn(String) -> Pattern| {
            prop_oneof![
                "[a-z]{4,8}(-[a-z0-9]{1,4})?".prop_map(plain),
                "[a-z]{4,8}".prop_map(Pattern::Is),
                "[a-z]{0,4}[*?]|[a-z]{1,3}\\[a-z\\]".prop_map(|text| Pattern::Glob(text.parse().unwrap())),
            ]
        };
        let role = prop::sample::select(&["bridge", "end-station", "grandmaster"][..]);
        let leaf = prop_oneof![
            Just(Filter::All),
            pattern(Pattern::Holds).prop_map(Filter::Name),
            pattern(Pattern::Is).prop_map(Filter::Tag),
            role.prop_map(|role| Filter::Role(Pattern::Is(role.into()))),
            prop::sample::select(&[Clock::Virtual, Clock::Real][..]).prop_map(Filter::Clock),
        ];
        leaf.prop_recursive(4, 24, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|a| Filter::Not(a.into())),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| Filter::And(a.into(), b.into())),
                (inner.clone(), inner).prop_map(|(a, b)| Filter::Or(a.into(), b.into())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_filter_reads_back_as_it_is_written(filter in filters()) {
            prop_assert_eq!(parse(&filter.to_string()), Ok(filter));
        }

        #[test]
        fn any_text_is_a_filter_or_wrong_at_a_place_in_it(text in "[a-c()*=|& \\[\\]ä\\PC]{0,24}|(and|or|not|name|[()]| |a){0,12}") {
            if let Err(error) = parse(&text) {
                prop_assert!(text.is_char_boundary(error.at) && !error.message.is_empty());
                prop_assert!(error.to_string().contains('^'));
            }
        }
    }
}
