//! Conditions as users write them: what is read, what is refused, and that showing and reading agree.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::family::Selector;
use crate::policy::metric::Family;

fn parsed(text: &str) -> Expression {
    match parse(text) {
        Ok(condition) => condition.expression,
        Err(mistakes) => panic!("{text}: {mistakes:?}"),
    }
}

/// Each mistake as the piece of text that it is about, what is wrong, and what to try.
fn mistakes(text: &str) -> Vec<(String, String, String)> {
    let Err(mistakes) = parse(text) else { panic!("{text} is accepted") };
    let piece = |mistake: Mistake| (text[mistake.span].to_owned(), mistake.message, mistake.help.unwrap_or_default());
    mistakes.into_iter().map(piece).collect()
}

fn the_mistake(text: &str) -> (String, String, String) {
    let mut found = mistakes(text);
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found.remove(0)
}

#[test]
fn and_binds_tighter_than_or_and_not_tightest() {
    let shown = |text| parsed(text).to_string();
    let (a, b, c) = ("cpu.used_percent > 90%", "threads > 5", "memory.available_bytes < 512MiB");
    assert_eq!(parsed(&format!("{a} or {b} and {c}")), parsed(&format!("{a} or ({b} and {c})")));
    assert_eq!(parsed(&format!("not {a} and {b}")), parsed(&format!("(not {a}) and {b}")));
    assert_eq!(shown(&format!("not ({a} and ({b} or {c}))")), format!("not ({a} and ({b} or {c}))"));
    assert_ne!(parsed(&format!("{a} or ({b} or {c})")), parsed(&format!("{a} or {b} or {c}")));
}

#[test]
fn every_form_of_the_contract_is_read() {
    for text in [
        "memory.available_percent < 8% or memory.pressure.full.avg10 > 20%",
        "disk[\"/var\"].used_percent >= 90%",
        "disk['/var'].read_only == true",
        "connections[443].established > 1000 and connections[\"443\"].backlog_percent > 50%",
        "avg(cpu.used_percent, 30s) > 90%",
        "max(network[\"eth0\"].receive_rate, 1m) > 100 MB/s",
        "min(memory.available_bytes, 1h) < 1.5GB",
        "p95(disk.await, 5m) > 250ms",
        "rate(memory.available_bytes) < -10MiB/s",
        "rate(cpu.used_percent) > 2%/s or rate(memory.oom_kills) > 0/s",
        "time_to(disk.used_percent, 95%) < 4h",
    ] {
        let expression = parsed(text);
        assert_eq!(parsed(&expression.to_string()), expression, "{text} → {expression}");
    }
    let Expression::Compare(comparison) = parsed("connections[443].established > 5") else { panic!() };
    assert_eq!(comparison.operand.metric, Metric::PortEstablished);
    assert_eq!(comparison.operand.selector.as_deref(), Some("443"));
}

#[test]
fn values_are_in_the_base_unit() {
    let Expression::Compare(comparison) = parsed("time_to(disk.used_percent, 95%) < 90m") else { panic!() };
    assert_eq!(comparison.operand.function, Some(Function::TimeTo(95.0)));
    assert_eq!((comparison.threshold, comparison.operand.unit()), (5400.0, Unit::Seconds));
}

#[test]
fn a_misspelt_name_gets_the_nearest_one() {
    let (piece, message, help) = the_mistake("memory.free_percent < 8%");
    assert_eq!(piece, "memory.free_percent");
    assert_eq!(message, "unknown metric `memory.free_percent`");
    assert_eq!(help, "did you mean `memory.available_percent`?");
    assert_eq!(the_mistake("cpu.usage_percent > 8%").2, "did you mean `cpu.used_percent`?");
    assert_eq!(the_mistake("disk[\"/\"].used_precent > 8%").2, "did you mean `disk.used_percent`?");
    assert_eq!(the_mistake("average(threads, 5s) > 8").1, "unknown function `average`");
    assert_eq!(the_mistake("timeto(threads, 5) > 8s").2, "did you mean `time_to`?");
    assert_eq!(the_mistake("qqq > 8s").2, "`node-guardian metrics` lists them all");
    assert!(the_mistake("cgroup[\"a\"].memory.used_percent > 8%").1.contains("not in this version"));
    assert_eq!(the_mistake("app.inflight > 3").2, "name the control: app[\"api\"].inflight");
    assert_eq!(the_mistake("app.bytes > 3MiB").1, "`app.bytes` does not say whose number it is");
    assert_eq!(the_mistake("app[\"a b\"].inflight > 3").1, "`a b` cannot be the name of a control");
    assert_eq!(the_mistake("app[\"api\"].InFlight > 3").1, "`InFlight` cannot be the name of a number");
    assert_eq!(the_mistake("app[\"api\"].cache_bytes > 3").2, "compare it with a size, such as 512MiB");
    assert!(the_mistake("anomaly(cpu.used_percent) > 3").1.contains("not in this version"));
}

#[test]
fn a_unit_that_does_not_fit_is_named_with_the_one_that_does() {
    let (piece, message, help) = the_mistake("memory.available_percent < 512MiB");
    assert_eq!(piece, "512MiB");
    assert_eq!(message, "`memory.available_percent` is measured in percent");
    assert_eq!(help, "compare it with a percentage, such as 90%");
    assert_eq!(the_mistake("rate(cpu.used_percent) > 5%").2, "compare it with percent points per second, such as 2%/s");
    assert_eq!(the_mistake("network.errors_rate > 5%/s").2, "compare it with a rate, such as 50/s");
    assert_eq!(the_mistake("time_to(disk.used_percent, 5GB) < 1h").0, "5GB");
    assert_eq!(mistakes("cpu.used_percent > 8 parsecs")[1].0, "parsecs");
    assert_eq!(the_mistake("cpu.used_percent > 8parsecs").1, "`8parsecs` is not a number with a unit");
}

#[test]
fn values_and_windows_that_can_never_be_are_refused() {
    assert_eq!(the_mistake("cpu.used_percent > 950%").1, "`cpu.used_percent` never exceeds 100%");
    assert_eq!(the_mistake("threads < -5").1, "`threads` is never negative");
    assert_eq!(the_mistake("avg(cpu.used_percent, 0s) > 9%").0, "0s");
    assert_eq!(the_mistake("avg(cpu.used_percent, 25h) > 9%").1, "a window is at most 24h");
    assert_eq!(the_mistake("avg(cpu.used_percent) > 9%").2, "write `avg(metric, 30s)`");
    assert_eq!(the_mistake("disk.read_only > true").2, "write `disk.read_only == true`");
    assert_eq!(the_mistake("memory[\"x\"].used_percent > 5%").2, "write `memory.used_percent`");
    assert_eq!(the_mistake("connections[99999].established > 5").0, "99999");
    assert_eq!(the_mistake("network[eth0].drops_rate > 5/s").2, "write [\"eth0\"]");
}

#[test]
fn one_mistake_does_not_hide_the_next() {
    let found = mistakes("cpu.usd_percent > 90% or (threads < 5% and 8% > memory.used_percent) or avg(threads) > 2 &&");
    let pieces: Vec<_> = found.iter().map(|(piece, ..)| piece.as_str()).collect();
    assert_eq!(pieces, ["cpu.usd_percent", "5%", "8%", "avg(threads)", "&&", ""]);
    assert_eq!(mistakes("").len(), 1);
    assert_eq!(mistakes(") threads > x ) and (cpu.usd > 1%").len(), 5);
}

#[test]
fn no_text_exhausts_the_stack() {
    assert!(mistakes(&"(".repeat(100_000))[0].1.contains("limit"));
    assert!(mistakes(&"(".repeat(4000))[0].1.contains("nested more than"));
    assert!(mistakes(&"not ".repeat(1000))[0].1.contains("nested more than"));
    let chain = vec!["threads > 5"; 250].join(" or ");
    assert_eq!(parsed(&chain).to_string(), chain);
}

fn selectors(metric: Metric) -> BoxedStrategy<Option<String>> {
    match metric.family().selector() {
        Selector::Nothing => Just(None).boxed(),
        Selector::Path => proptest::option::of("/[a-z/ '.é]{0,9}|/[a-z\"]{0,5}").boxed(),
        Selector::Name => proptest::option::of("[a-z0-9.@-]{1,9}").boxed(),
        // Without a selector, the name means the node's metric of the same name where there is one.
        Selector::Port if matches!(metric, Metric::PortEstablished | Metric::PortListenDropsRate) => {
            (1..=65535u32).prop_map(|p| Some(p.to_string())).boxed()
        }
        Selector::Reported => {
            let unit = metric.name().split_once('.').map_or("", |(_, unit)| unit);
            "[A-Za-z0-9_-]{1,9}[.][a-z][a-z0-9_]{0,5}_".prop_map(move |stem| Some(format!("{stem}{unit}"))).boxed()
        }
        Selector::Port => proptest::option::of((1..=65535u32).prop_map(|p| p.to_string())).boxed(),
    }
}

fn values(unit: Unit, signed: bool) -> BoxedStrategy<f64> {
    match unit {
        Unit::Percent => (0.0..=100.0f64).boxed(),
        Unit::Flag => prop_oneof![Just(0.0), Just(1.0)].boxed(),
        _ if signed => prop_oneof![-1e12..1e12f64, Just(-536_870_912.0), Just(0.001)].boxed(),
        _ => prop_oneof![0.0..1e15f64, 0.0..1.0f64, Just(0.0), (0..1u64 << 40).prop_map(|v| v as f64)].boxed(),
    }
}

fn functions(metric: Metric) -> BoxedStrategy<Option<Function>> {
    if metric.unit() == Unit::Flag {
        return Just(None).boxed();
    }
    let window = (1u64..86_400_000_000_000).prop_map(Duration::from_nanos);
    prop_oneof![
        Just(None),
        window.clone().prop_map(|w| Some(Function::Average(w))),
        window.clone().prop_map(|w| Some(Function::Maximum(w))),
        window.clone().prop_map(|w| Some(Function::Minimum(w))),
        window.prop_map(|w| Some(Function::Percentile95(w))),
        Just(Some(Function::Rate)),
        values(metric.unit(), false).prop_map(|v| Some(Function::TimeTo(v))),
    ]
    .boxed()
}

fn comparisons() -> impl Strategy<Value = Expression> {
    let metric = proptest::sample::select(Metric::ALL);
    let operand = metric.prop_flat_map(|metric| {
        (selectors(metric), functions(metric)).prop_map(move |(selector, function)| Operand {
            metric,
            selector,
            function,
        })
    });
    operand.prop_flat_map(|operand| {
        let signed = operand.function == Some(Function::Rate);
        let flag = operand.unit() == Unit::Flag;
        let relations: &[Relation] = if flag {
            &[Relation::Equal, Relation::NotEqual]
        } else {
            &[
                Relation::Less,
                Relation::LessOrEqual,
                Relation::Greater,
                Relation::GreaterOrEqual,
                Relation::Equal,
                Relation::NotEqual,
            ]
        };
        (proptest::sample::select(relations), values(operand.unit(), signed)).prop_map(move |(relation, threshold)| {
            Expression::Compare(Comparison { operand: operand.clone(), relation, threshold })
        })
    })
}

fn expressions() -> impl Strategy<Value = Expression> {
    comparisons().prop_recursive(5, 16, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expression::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expression::Or(Box::new(a), Box::new(b))),
            inner.prop_map(|a| Expression::Not(Box::new(a))),
        ]
    })
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("and"),
        Just("or"),
        Just("not"),
        Just("("),
        Just(")"),
        Just("["),
        Just("]"),
        Just(","),
        Just("<"),
        Just(">="),
        Just("="),
        Just("\"/var\""),
        Just("'"),
        Just("5%"),
        Just("-3/s"),
        Just("30s"),
        Just("avg"),
        Just("time_to("),
        Just("disk"),
        Just(".used_percent"),
        Just("cpu.used_percent"),
        Just("rate(threads)"),
        Just("é"),
        Just("true"),
        Just("12"),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.join(" "))
}

fn check_spans(text: &str) -> Result<(), TestCaseError> {
    if let Err(mistakes) = parse(text) {
        prop_assert!(!mistakes.is_empty());
        for mistake in mistakes {
            prop_assert!(text.get(mistake.span.clone()).is_some(), "{mistake:?} of {text:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_answered_with_mistakes_inside_it(text in "\\PC*|[ -~\\n\\té中]{0,200}") {
        check_spans(&text)?;
    }

    #[test]
    fn any_order_of_tokens_is_answered(text in pieces()) {
        check_spans(&text)?;
    }

    #[test]
    fn what_is_printed_reads_back_the_same(expression in expressions()) {
        let text = expression.to_string();
        prop_assume!(text.len() <= 4096);
        match parse(&text) {
            Ok(condition) => prop_assert_eq!(condition.expression, expression, "{}", text),
            Err(mistakes) => prop_assert!(false, "{}: {:?}", text, mistakes),
        }
    }
}

#[test]
fn every_example_value_fits_its_metric() {
    for metric in Metric::ALL {
        let example = metric.unit().example().rsplit(' ').next().unwrap_or_default();
        let relation = if example == "false" { "==" } else { ">" };
        let is_reported = metric.family() == Family::App;
        let name = if is_reported { metric.name().replacen('.', "[\"api\"].", 1) } else { metric.name().to_owned() };
        let text = format!("{name} {relation} {example}");
        assert!(parse(&text).is_ok(), "{text}: {:?}", parse(&text));
    }
}
