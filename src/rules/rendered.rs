//! Template files, rendered for one request.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
    thread,
};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, syntax::SyntaxConfig};
use smol::unblock;

use super::{
    Rule, line_ends,
    spelling::SPELLINGS,
    template::{VARIABLES, Values},
};
use crate::{Refusal, Request, Source};

/// The longest template, in bytes.
const TEMPLATE: usize = 64 << 10;
/// The stack for a template, in bytes, and more for each byte of it. minijinja bounds the depth of brackets, but a
/// chain of operators, filters or `elif` costs it stack as well: 920 bytes for each byte of the worst chain without
/// optimization.
const STACK: (usize, usize) = (2 << 20, 1280);
/// The longest result, in bytes.
const RENDERED: usize = 1 << 20;
/// The most instructions of minijinja, which documents 64 bytes at most for each: 12.8 MB, and some milliseconds.
const FUEL: u64 = 200_000;

/// The values of a template.
#[derive(Clone)]
pub(super) struct Context {
    known: Arc<BTreeMap<String, Value>>,
    /// Whether the client could end a line of the result, and begin another, such as a command of a boot menu.
    has_line_ends: bool,
}

impl Context {
    pub(super) fn new(values: &Values<'_>, rule: &Rule) -> Self {
        let mut known: BTreeMap<String, Value> =
            rule.set.iter().map(|(name, value)| (name.clone(), value.into())).collect();
        // An unknown fact is `none`, so that templates can compare it.
        let value = |variable| values.of(variable).map_or_else(|| Value::from(()), |value| Value::from(&*value));
        known.extend(VARIABLES.map(|(name, variable)| (name.to_owned(), value(variable))));
        let of_client = VARIABLES.iter().filter_map(|(_, variable)| values.of(*variable));
        // All groups are parts of the name.
        let has_line_ends = of_client.into_iter().any(|value| value.contains(char::is_control));
        let text = |found: Option<regex_lite::Match<'_>>| Value::from(found.map_or("", |found| found.as_str()));
        let groups = values.groups.map_or_else(Vec::new, |groups| groups.iter().map(text).collect());
        known.insert("groups".into(), groups.into());
        let names = rule.name.iter().flat_map(|name| name.capture_names()).flatten();
        let named = names.filter_map(|name| Some((name.to_owned(), text(values.groups?.name(name)))));
        known.extend(named.collect::<Vec<_>>());
        Self { known: Arc::new(known), has_line_ends }
    }
}

/// Renders the template that comes from this source.
pub(super) async fn render(source: Source, request: &Request, context: &Context) -> Result<Source, Refusal> {
    if context.has_line_ends {
        return Err(Refusal::denied().because("a template cannot have a name with control characters"));
    }
    let origin = source.origin().map_or_else(|| request.text().into_owned(), Into::into);
    let no = |place: &str, why: &dyn std::fmt::Display| {
        let refusal = Refusal::internal().because(format_args!("{origin}{place}: {why}"));
        log::error!("template {}", refusal.detail().unwrap_or_default());
        refusal
    };
    let too_long = |_| no("", &format_args!("a template has {TEMPLATE} bytes at most"));
    let size = source.size().unwrap_or(0);
    if size > TEMPLATE as u64 {
        return Err(too_long(()));
    }
    let bytes = match source.collect(TEMPLATE).await {
        Err(refusal) if refusal == Refusal::too_big() => return Err(too_long(())),
        other => other?,
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        no(&format!(":{line}"), &"it is not UTF-8")
    })?;
    let context = context.clone();
    // This may take milliseconds, which would delay other transfers.
    let rendered = unblock(move || with_stack(&text, context)).await;
    let bytes = rendered.map_err(|(line, why)| no(&format!(":{line}"), &why))?;
    Ok(Source::from(bytes).with_origin(origin.clone()))
}

/// As [`rendered`], on a stack that is large enough.
fn with_stack(text: &str, context: Context) -> Result<Vec<u8>, (usize, String)> {
    let stack = STACK.0 + STACK.1 * text.len();
    thread::scope(|scope| {
        let work = thread::Builder::new().name("tuffet-template".into()).stack_size(stack);
        let work = work.spawn_scoped(scope, || rendered(text, context)).map_err(|error| (1, error.to_string()))?;
        work.join().unwrap_or_else(|_| Err((1, "the renderer panicked".into())))
    })
}

/// # Errors
/// The line that failed, and why.
fn rendered(text: &str, context: Context) -> Result<Vec<u8>, (usize, String)> {
    let environment = environment();
    let mut out = Bounded(Vec::new());
    // Messages need no file name: the log shows it anyway.
    let result = environment
        .template_from_named_str("", &line_ends::kept(text))
        .and_then(|template| template.render_captured_to(Value::from((*context.known).clone()), &mut out).map(drop));
    result.map(|()| out.0).map_err(|error| {
        let why = match (error.kind(), error.detail()) {
            (ErrorKind::WriteFailure, _) => format!("what is rendered has {RENDERED} bytes at most"),
            (ErrorKind::OutOfFuel, _) => "it takes too much work".into(),
            (kind, Some(detail)) => format!("{kind}: {detail}"),
            (kind, None) => kind.to_string(),
        };
        let without = match error.kind() {
            ErrorKind::UndefinedError => without_value(&environment, text, &context),
            _ => String::new(),
        };
        let why = why + &without;
        (error.line().unwrap_or(1), why)
    })
}

/// The names in a template that have no value, as the end of a message.
fn without_value(environment: &Environment<'_>, text: &str, context: &Context) -> String {
    let template = environment.template_from_named_str("", text);
    let names = template.map(|template| template.undeclared_variables(false)).unwrap_or_default();
    let has_none = |name: &String| context.known.get(name).is_none_or(Value::is_none);
    let mut names: Vec<String> = names.into_iter().filter(has_none).collect();
    names.sort();
    if names.is_empty() { String::new() } else { format!("; without a value here: {}", names.join(", ")) }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    // Mistakes in a template are errors, and an unknown value is never printed.
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_formatter(|out, state, value| match value.is_none() {
        true => Err(minijinja::Error::new(ErrorKind::UndefinedError, "it is unknown for this machine")),
        false => minijinja::escape_formatter(out, state, value),
    });
    environment.add_filter("default", |value: Value, other: Value| match value.is_none() || value.is_undefined() {
        true => other,
        false => value,
    });
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    // The delimiters are those of Jinja.
    environment.set_syntax(syntax.unwrap_or_default());
    for (name, spelling) in SPELLINGS {
        environment.add_filter(name, move |text: String| {
            let wrong = || minijinja::Error::new(ErrorKind::InvalidOperation, format!("{text:?} cannot be spelled so"));
            spelling.of(&text).ok_or_else(wrong)
        });
    }
    environment
}

/// A writer that takes [`RENDERED`] bytes at most.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RENDERED {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::super::{Machine, Machines, Rules};
    use super::*;
    use crate::{
        ErrorCode, Handler, Request,
        handlers::{Memory, Ruled},
        packet,
    };

    fn request(name: &str) -> Request {
        let packet = packet::Request::new(name);
        Request::new(([192, 168, 2, 91], 1069).into(), ([10, 0, 0, 1], 69).into(), packet).unwrap()
    }

    /// The text that a client gets for this name, if this template is the target of all names.
    fn get(template: impl Into<bytes::Bytes>, name: &str) -> Result<(String, Option<u64>), Refusal> {
        let memory = Memory::new();
        memory.insert("menu.j2", template).unwrap();
        let rule = Rule::new("menu").set("site", "lab").unwrap().name("(?<which>[^/]*)$").unwrap();
        let rule = rule.target("menu.j2").unwrap().target("none").unwrap();
        let machines = Machines::default();
        let machine = Machine { arch: Some("x64".into()), ..Machine::default() };
        machines.learn(Some([192, 168, 2, 91].into()), machine);
        let rewrite = Ruled::new(Rules::new(vec![rule]).unwrap(), memory).machines(&machines);
        let source = block_on(rewrite.read(&request(name)))?;
        assert_eq!(source.origin(), Some("memory:menu.j2"));
        let size = source.size();
        Ok((String::from_utf8(block_on(source.collect(2 << 20)).unwrap()).unwrap(), size))
    }

    #[test]
    fn a_template_knows_the_machine() {
        for (template, name, expected) in [
            ("{{ site }} {{ path }} {{ which }} {{ groups[1] }}", "a/b", "lab a/b b b"),
            ("{{ client }} {{ client | hexraw | upper }} {{ server }}", "x", "192.168.2.91 C0A8025B 10.0.0.1"),
            (
                "{{ mac }} {{ mac | hex }} {{ mac | hexraw }}",
                "01-52-54-00-12-34-56",
                "52-54-00-12-34-56 52:54:00:12:34:56 525400123456",
            ),
            ("{{ serial }} on {{ arch }}", "1a2b3c4d/start.elf", "1a2b3c4d on x64"),
            ("{{ uuid | guid }}", "01234567-89ab-cdef-0123-456789abcdef", "67452301-ab89-efcd-0123-456789abcdef"),
            ("{% if serial %}{{ serial }}{% else %}default{% endif %}", "x", "default"),
            ("{% if mac == \"52-54-00-12-34-56\" %}one{% else %}other{% endif %}", "x", "other"),
            (
                "{{ serial | default('none') }} {{ nobody | default('none') }} {{ arch | default('none') }}",
                "x",
                "none none x64",
            ),
            ("{{ 'one' if serial in ['1a2b3c4d'] else 'other' }}", "x", "other"),
            ("a\n  {% if arch %}\nb\n  {% endif %}\nc\n", "x", "a\nb\nc\n"),
            ("a{% if arch %} b{% endif %}\nc {# d #}\r\n{% if arch %}{% endif %}\nd\n", "x", "a b\nc \r\nd\n"),
            ("a{% set b = [\n  1,\n] %}\n{% set c = [\n  2,\n] %}\n{{ b[0] }}{{ c[0] -}}\n e\n", "x", "a\n12e\n"),
            ("{ {% if 1 %}\n{{ 1 }}{% if 1 -%}\n b{% endif %}{% endif %}\n", "x", "{ \n1b\n"),
            ("{% raw %}\n a {% b %}\n{% endraw %}\n{% if 1 %}\n c\n{% endif %}\n", "x", " a {% b %}\n c\n"),
            ("{{ '<&>' }}\n", "x", "<&>\n"),
            ("", "x", ""),
        ] {
            let (text, size) = get(template, name).unwrap_or_else(|refusal| panic!("{template}: {refusal}"));
            assert_eq!(text, expected);
            assert_eq!(size, Some(expected.len() as u64));
        }
    }

    #[test]
    fn a_template_that_fails_is_an_error_with_its_line() {
        for (template, why) in [
            ("a\nb\n{{ nobody }}{{ path }}", "menu.j2:3: undefined value; without a value here: nobody"),
            (
                "a\n{{ arch }} {{ serial }} {{ mac }}",
                "menu.j2:2: undefined value: it is unknown for this machine; without a value here: mac, serial",
            ),
            ("\n{% if %}", "menu.j2:2: syntax error"),
            ("{{ path | hexraw }}", "menu.j2:1: invalid operation: \"x\" cannot be spelled so"),
            ("{% include 'other' %}", "menu.j2:1: "),
            (
                "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
                "it takes too much work",
            ),
            ("{% for a in range(99) %}{{ 'x' * 20000 }}{% endfor %}", "1048576 bytes at most"),
        ] {
            let refusal = get(template, "x").unwrap_err();
            assert!(refusal.code() == ErrorCode::NOT_DEFINED && refusal.ends_search(), "no other target: {refusal}");
            assert!(refusal.detail().unwrap().contains(why), "{template}: {refusal}");
        }
        let too_long = get(vec![b' '; TEMPLATE + 1], "x").unwrap_err();
        assert!(too_long.detail().unwrap().contains("65536 bytes at most"), "{too_long}");
        let not_text = get(&b"a\nb \xff\n"[..], "x").unwrap_err();
        assert!(not_text.detail().unwrap().ends_with(":2: it is not UTF-8"), "{not_text}");
    }

    /// Each of them is as long as a template may be, and most are good.
    #[test]
    fn a_long_chain_takes_no_more_stack_than_there_is() {
        let chain = |before: &str, link: &str, after: &str| {
            let count = (TEMPLATE - before.len() - after.len()) / link.len();
            [before, &link.repeat(count), after].concat()
        };
        for (before, link, after) in [
            ("{{ ", "-", "1 }}"),
            ("{{ ", "not ", "1 }}"),
            ("{{ 1", "+1", " }}"),
            ("{{ path", ".a", " }}"),
            ("{{ path", "|e", " }}"),
            ("{{ path", "[0]", " }}"),
            ("{{ ", "(", "1 }}"),
            ("{% if a %}", "{% elif mac == \"52-54-00-12-34-56\" %}", "{% endif %}"),
            ("", "{% if path %}", ""),
        ] {
            let template = chain(before, link, after);
            match get(template, "x") {
                Ok((text, _)) => assert!(text.len() < 100, "{link}"),
                Err(refusal) => assert_eq!(refusal.code(), ErrorCode::NOT_DEFINED, "{link}"),
            }
        }
    }

    /// A line of a boot menu is a command.
    #[test]
    fn a_client_adds_no_line_to_its_menu() {
        let menu = "#!ipxe\nkernel {{ site }} \"{{ which }}\" {{ path }} {{ groups[1] }}\nboot\n";
        for name in ["x\nshell", "x\rshell", "a\nb/x", "x\x0bshell", "x\x1b[2J", "\nx", "x\u{85}shell", "x\x7f"] {
            let refusal = get(menu, name).unwrap_err();
            assert!(refusal.code() == ErrorCode::ACCESS_VIOLATION && refusal.ends_search(), "{name:?}: {refusal}");
        }
        let long = "x".repeat(60_000);
        for name in [
            "x\" || shell",
            "x'; shell #",
            "${net0/mac}",
            "}} {{ site }} {% raw %}",
            "{% include 'none' %}",
            "{# x",
            "x && shell || boot",
            "$1 ${path} $$",
            "a\\x0ashell",
            "x%0ashell",
            "\u{2028}\u{202e}x",
            &long,
        ] {
            let (text, _) = get(menu, name).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
            let path = name.replace('\\', "/");
            let which = path.rsplit('/').next().unwrap();
            assert_eq!(text, format!("#!ipxe\nkernel lab \"{which}\" {path} {which}\nboot\n"));
        }
    }

    /// A client may say any serial number and MAC address, but only in their own letters.
    #[test]
    fn facts_in_a_name_have_few_letters() {
        let menu = "{{ mac | default('-') }} {{ uuid | default('-') }} {{ serial | default('-') }} {{ arch }}";
        for name in [
            "1a2b3c4d\" || shell/x",
            "1a2b3c4;/x",
            "1a2b 3c4/x",
            "pxelinux.cfg/01-52-54-00-12-34-5g",
            "pxelinux.cfg/52-54-00-12-34-56-;/x",
            "01234567-89ab-cdef-0123-456789abcde}/x",
            "{{serial}}/x",
        ] {
            assert_eq!(get(menu, name).unwrap().0, "- - - x64", "{name}");
        }
        let (text, _) = get(menu, "1a2b3c4d/\"01-52-54-00-12-34-56\";shell").unwrap();
        assert_eq!(text, "52-54-00-12-34-56 - 1a2b3c4d x64");
    }

    #[test]
    fn text_of_a_client_is_never_a_template() {
        assert_eq!(get("{{ path }} {{ which }}", "{{ site }}").unwrap().0, "{{ site }} {{ site }}");
        let memory = Memory::new();
        memory.insert("x.j2", "{{ client }}").unwrap();
        let rewrite = Ruled::new(Rules::new(vec![Rule::new("x").target("${path}").unwrap()]).unwrap(), memory);
        let source = block_on(rewrite.read(&request("x.j2"))).unwrap();
        assert_eq!(block_on(source.collect(100)).unwrap(), b"{{ client }}", "the target does not end with .j2");
    }
}
