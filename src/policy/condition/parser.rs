//! Tokens to the tree of a condition. A mistake never hides the next one: after each, reading goes on at the next
//! `and`, `or` or bracket. Depth and length are bounded, so no text can exhaust the stack.

use std::ops::Range;

use super::lexer::{Kind, Token, tokens};
use super::names::{number, selector, unknown_metric};
use super::{Comparison, Condition, Expression, Mistake, Operand, Relation};
use crate::policy::metric::{Family, Metric, Selected};
use crate::policy::unit::{Quantity, Suffix, Unit};

/// Nobody reads a condition that is longer.
const LONGEST: usize = 4096;

/// Brackets and `not` within one another; each costs a few stack frames, in the parser and whoever walks the tree.
const DEEPEST: usize = 64;

/// Reads a condition, or finds all that is wrong with it. Spans are bytes of `text`.
///
/// # Errors
/// At least one mistake, in the order of the text.
pub fn parse(text: &str) -> Result<Condition, Vec<Mistake>> {
    if text.len() > LONGEST {
        let message = format!("this condition is {} bytes long; the limit is {LONGEST}", text.len());
        return Err(vec![Mistake { span: 0..0, message, help: Some("split it into several rules".to_owned()) }]);
    }
    let mut mistakes = Vec::new();
    let tokens = tokens(text, &mut mistakes);
    let mut parser = Parser { tokens, at: 0, depth: 0, gave_up: false, mistakes };
    let expression = parser.whole();
    let mut mistakes = parser.mistakes;
    match expression {
        Some(expression) if mistakes.is_empty() => Ok(Condition { text: text.trim().to_owned(), expression }),
        Some(_) | None => {
            mistakes.sort_by_key(|mistake| (mistake.span.start, mistake.span.end));
            mistakes.dedup_by(|later, earlier| later.span == earlier.span);
            Err(mistakes)
        }
    }
}

/// Reads one operand alone, as a trace names the metric that it has a reading of.
///
/// # Errors
/// At least one mistake.
pub fn operand(text: &str) -> Result<Operand, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let tokens = tokens(text, &mut mistakes);
    let mut parser = Parser { tokens, at: 0, depth: 0, gave_up: false, mistakes };
    let operand = parser.operand().ok().flatten();
    if parser.mistakes.is_empty() && parser.kind() != Kind::End {
        let span = parser.span();
        parser.complain(span, format!("`{text}` is more than the name of a metric"), "write METRIC=VALUE");
    }
    operand.filter(|_| parser.mistakes.is_empty()).ok_or(parser.mistakes)
}

/// The grammar is broken here and the mistake is recorded; reading goes on behind it.
struct Broken;

/// `Ok(None)` is well formed but means nothing; recorded too.
type Parsed<T> = Result<Option<T>, Broken>;

/// How `and` or `or` puts its two sides together.
type Join = fn(Box<Expression>, Box<Expression>) -> Expression;

pub(super) struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    depth: usize,
    /// Nested too deeply: the rest was not read, so nothing is said about it.
    gave_up: bool,
    pub(super) mistakes: Vec<Mistake>,
}

/// A value with its place, for complaints about it.
pub(super) struct Written {
    pub quantity: Option<Quantity>,
    pub span: Range<usize>,
}

impl<'t> Parser<'t> {
    fn kind(&self) -> Kind<'t> {
        self.tokens.get(self.at).map_or(Kind::End, |token| token.kind)
    }

    fn span(&self) -> Range<usize> {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0..0, |token| token.span.clone())
    }

    fn advance(&mut self) -> Range<usize> {
        let span = self.span();
        self.at = (self.at + 1).min(self.tokens.len().saturating_sub(1));
        span
    }

    pub(super) fn complain(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.push(Mistake { span, message: message.into(), help: Some(help.into()) });
    }

    fn broken(&mut self, message: impl Into<String>, help: impl Into<String>) -> Broken {
        let found_end = self.kind() == Kind::End;
        let span = self.span();
        let message: String = message.into();
        self.complain(span, if found_end { format!("{message}, but the condition ends") } else { message }, help);
        Broken
    }

    fn whole(&mut self) -> Option<Expression> {
        let first = self.expression(1);
        let mut complete = first;
        while self.kind() != Kind::End {
            complete = None;
            if self.kind() == Kind::Close {
                let span = self.advance();
                self.complain(span, "this bracket closes nothing", "remove it, or add its `(`");
            } else if !matches!(self.kind(), Kind::And | Kind::Or) {
                self.broken("expected `and` or `or`", "join comparisons with `and` or `or`");
                self.recover();
            }
            if matches!(self.kind(), Kind::And | Kind::Or) {
                self.advance();
                self.expression(1);
            }
        }
        complete
    }

    /// Precedence climbing: `or` binds with 1, `and` with 2, both to the left.
    fn expression(&mut self, least: u8) -> Option<Expression> {
        let mut left = self.term();
        loop {
            let (binding, join): (u8, Join) = match self.kind() {
                Kind::And => (2, Expression::And),
                Kind::Or => (1, Expression::Or),
                _ => return left,
            };
            if binding < least {
                return left;
            }
            self.advance();
            let right = self.expression(binding + 1);
            left = match (left, right) {
                (Some(left), Some(right)) => Some(join(Box::new(left), Box::new(right))),
                _ => None,
            };
        }
    }

    fn term(&mut self) -> Option<Expression> {
        match self.kind() {
            Kind::Not => {
                let span = self.advance();
                self.deeper(span, |parser| Some(Expression::Not(Box::new(parser.term()?))))
            }
            Kind::Open => {
                let span = self.advance();
                self.deeper(span.clone(), |parser| parser.bracketed(span))
            }
            _ => match self.comparison() {
                Ok(comparison) => comparison.map(Expression::Compare),
                Err(Broken) => {
                    self.recover();
                    None
                }
            },
        }
    }

    fn deeper(&mut self, span: Range<usize>, read: impl FnOnce(&mut Self) -> Option<Expression>) -> Option<Expression> {
        if self.depth >= DEEPEST {
            let message = format!("brackets and `not` are nested more than {DEEPEST} deep");
            self.complain(span, message, "split the condition into several rules");
            self.at = self.tokens.len().saturating_sub(1);
            self.gave_up = true;
            return None;
        }
        self.depth += 1;
        let expression = read(self);
        self.depth -= 1;
        expression
    }

    fn bracketed(&mut self, opened: Range<usize>) -> Option<Expression> {
        let inner = self.expression(1);
        if !matches!(self.kind(), Kind::Close | Kind::End) {
            self.broken("expected `and`, `or` or `)`", "join comparisons with `and` or `or`");
            self.recover();
            self.expression_after_recovery();
        }
        match self.kind() {
            Kind::Close => {
                self.advance();
                inner
            }
            _ => {
                if !self.gave_up {
                    self.complain(opened, "this bracket is never closed", "add `)`");
                }
                None
            }
        }
    }

    /// What follows a broken piece within the same bracket is read for its mistakes only.
    fn expression_after_recovery(&mut self) {
        while matches!(self.kind(), Kind::And | Kind::Or) {
            self.advance();
            self.expression(1);
            if !matches!(self.kind(), Kind::And | Kind::Or | Kind::Close | Kind::End) {
                self.recover();
            }
        }
    }

    /// To the next `and`, `or` or closing bracket of this level.
    fn recover(&mut self) {
        let mut nested = 0usize;
        loop {
            match self.kind() {
                Kind::End => return,
                Kind::And | Kind::Or if nested == 0 => return,
                Kind::Close if nested == 0 => return,
                Kind::Close => nested -= 1,
                Kind::Open => nested += 1,
                _ => {}
            }
            self.advance();
        }
    }

    fn comparison(&mut self) -> Parsed<Comparison> {
        let operand = self.operand()?;
        let relation = self.relation(operand.as_ref())?;
        let threshold = self.threshold(operand.as_ref(), relation)?;
        Ok(operand.zip(threshold).map(|(operand, threshold)| Comparison { operand, relation, threshold }))
    }

    fn relation(&mut self, operand: Option<&Operand>) -> Result<Relation, Broken> {
        if let Kind::Relation(relation) = self.kind() {
            self.advance();
            return Ok(relation);
        }
        let help = operand.map_or("compare with < <= > >= == or !=".to_owned(), |operand| {
            format!("compare it: `{operand} > …` with {}", operand.unit().example())
        });
        Err(self.broken("expected a comparison such as `<` or `>`", help))
    }

    fn operand(&mut self) -> Parsed<Operand> {
        match self.kind() {
            Kind::Word(name) if self.tokens.get(self.at + 1).is_some_and(|next| next.kind == Kind::Open) => {
                self.function(name)
            }
            Kind::Word(_) => {
                let metric = self.metric()?;
                Ok(metric.map(|(metric, selector)| Operand { metric, selector, function: None }))
            }
            Kind::Value(_) => Err(self.broken("a comparison starts with its metric", "write `metric < value`")),
            _ => Err(self.broken("expected a metric", "such as `memory.available_percent < 10%`")),
        }
    }

    /// `disk.used_percent`, `disk["/var"].used_percent`, `connections[443].established`.
    fn metric(&mut self) -> Parsed<(Metric, Option<String>)> {
        let Kind::Word(first) = self.kind() else {
            return Err(self.broken("expected a metric", "such as `memory.available_percent`"));
        };
        let mut span = self.advance();
        if self.kind() != Kind::SelectOpen {
            let metric = Metric::named(first, Selected::No).filter(|metric| metric.family() != Family::App);
            if metric.is_none() {
                self.mistakes.push(unknown_metric(first, span));
            }
            return Ok(metric.map(|metric| (metric, None)));
        }
        self.advance();
        let (selected, selected_span) = self.selected()?;
        let Kind::Word(rest) = self.kind() else {
            return Err(self.broken("expected the metric of this instance", "such as `disk[\"/var\"].used_percent`"));
        };
        span.end = self.advance().end;
        let rest = rest.trim_start_matches('.');
        if first == Family::App.prefix() {
            let found = number(&selected, rest, span).map(|(metric, instance)| (metric, Some(instance)));
            return Ok(found.map_err(|mistake| self.mistakes.push(mistake)).ok());
        }
        let name = format!("{first}.{rest}");
        let Some(metric) = Metric::named(&name, Selected::Yes) else {
            self.mistakes.push(unknown_metric(&name, span));
            return Ok(None);
        };
        match selector(metric, &selected, selected_span) {
            Ok(selector) => Ok(Some((metric, Some(selector)))),
            Err(mistake) => {
                self.mistakes.push(mistake);
                Ok(None)
            }
        }
    }

    /// Between the square brackets, and past the closing one.
    fn selected(&mut self) -> Result<(String, Range<usize>), Broken> {
        let span = self.span();
        let selected = match self.kind() {
            Kind::Text(text) => text.to_owned(),
            Kind::Value(Some(Quantity { value, suffix: Suffix::None })) => format!("{value}"),
            Kind::Word(word) => {
                let help = format!("write [\"{word}\"]");
                self.complain(span.clone(), "an instance is named in quotes", help);
                word.to_owned()
            }
            _ => return Err(self.broken("expected the name of an instance", "such as [\"/var\"], [\"eth0\"] or [443]")),
        };
        self.advance();
        if self.kind() != Kind::SelectClose {
            return Err(self.broken("expected `]`", "close the selector, such as `disk[\"/var\"].used_percent`"));
        }
        self.advance();
        Ok((selected, span))
    }

    /// `avg(m, 30s)`, `rate(m)`, `time_to(m, 95%)`.
    fn function(&mut self, name: &str) -> Parsed<Operand> {
        let name_span = self.advance();
        self.advance();
        let nested = self.tokens.get(self.at + 1).is_some_and(|next| next.kind == Kind::Open);
        if nested && matches!(self.kind(), Kind::Word(_)) {
            return Err(
                self.broken("a function takes a metric, not another function", "use one function per comparison")
            );
        }
        let metric = self.metric()?;
        let argument = if self.kind() == Kind::Comma {
            self.advance();
            Some(self.written()?)
        } else {
            None
        };
        if self.kind() != Kind::Close {
            return Err(self.broken(format!("expected `)` to close `{name}(`"), "functions are like `avg(m, 30s)`"));
        }
        let span = name_span.start..self.advance().end;
        let function = self.resolved(name, name_span, span, metric.as_ref().map(|(metric, _)| *metric), argument);
        Ok(metric.zip(function).map(|((metric, selector), function)| Operand {
            metric,
            selector,
            function: Some(function),
        }))
    }

    /// A value, or words in its place.
    fn written(&mut self) -> Result<Written, Broken> {
        match self.kind() {
            Kind::Value(quantity) => Ok(Written { quantity, span: self.advance() }),
            _ => Err(self.broken("expected a value", "such as 30s, 8%, 512MiB or 1000/s")),
        }
    }

    fn threshold(&mut self, operand: Option<&Operand>, relation: Relation) -> Parsed<f64> {
        if let Some(operand) = operand.filter(|operand| operand.unit() == Unit::Flag) {
            return self.flag(operand, relation);
        }
        let help = operand.map_or("such as 8%, 512MiB, 250ms or 1000/s", |operand| operand.unit().example());
        match self.kind() {
            Kind::Value(quantity) => {
                let written = Written { quantity, span: self.advance() };
                Ok(operand.and_then(|operand| self.fitting(operand, written)))
            }
            // Of an unknown metric, nobody knows whether it is a flag.
            Kind::Word("true" | "false") if operand.is_none() => {
                self.advance();
                Ok(None)
            }
            Kind::Word(word) if Metric::named(word, Selected::No).is_some() => {
                Err(self.broken("a metric is compared with a value, not with another metric", help))
            }
            _ => Err(self.broken("expected a value", help)),
        }
    }

    fn flag(&mut self, operand: &Operand, relation: Relation) -> Parsed<f64> {
        let help = format!("write `{operand} == true`");
        let value = match self.kind() {
            Kind::Word("true") => 1.0,
            Kind::Word("false") => 0.0,
            _ => return Err(self.broken(format!("`{operand}` is either true or false"), help)),
        };
        let span = self.advance();
        if matches!(relation, Relation::Equal | Relation::NotEqual) {
            return Ok(Some(value));
        }
        self.complain(span, format!("true and false have no order, so `{}` means nothing", relation.symbol()), help);
        Ok(None)
    }
}
