use super::*;

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source.to_owned(), BTreeMap::new()).unwrap()
}

fn render(source: &str, variables: &str) -> Result<String, ChatError> {
    template(source).render_json(variables, Clock::Now)
}

#[test]
fn a_file_of_its_own_comes_first_and_a_list_has_a_default() {
    let list = br#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    let prompt = |config: Option<&[u8]>, file: Option<&[u8]>| {
        let found = ChatTemplate::from_files(config, file).unwrap();
        found.map(|template| template.render(&[], Clock::Now).unwrap())
    };
    assert_eq!(prompt(Some(list), None).unwrap(), "d");
    assert_eq!(prompt(Some(list), Some(b"f")).unwrap(), "f");
    assert_eq!(prompt(Some(b"{}"), None), None);
    assert_eq!(prompt(None, None), None);
    let error = |config: &[u8]| ChatTemplate::from_files(Some(config), None).unwrap_err().to_string();
    assert!(error(b"{").starts_with("tokenizer_config.json: EOF"));
    let expected = "tokenizer_config.json: `chat_template` is neither a text nor a list of named ones";
    for config in
        [&br#"{"chat_template": 1}"#[..], br#"{"chat_template": []}"#, br#"{"chat_template": [{"name": "default"}]}"#]
    {
        assert_eq!(error(config), expected);
    }
}

#[test]
fn a_token_is_a_text_or_an_object_with_one() {
    let config = br#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
                      "chat_template": "{{ bos_token }}{{ eos_token }}{{ pad_token }}"}"#;
    let template = ChatTemplate::from_files(Some(config), None).unwrap().unwrap();
    assert_eq!(template.render(&[], Clock::Now).unwrap(), "<s></s>");
}

#[test]
fn a_template_may_refuse() {
    let source = "{% if messages[0].role != 'user' %}{{ raise_exception('The user begins.') }}{% endif %}ok";
    assert_eq!(template(source).render(&[Message::new("user", "a")], Clock::Now).unwrap(), "ok");
    match template(source).render(&[Message::new("system", "a")], Clock::Now) {
        Err(ChatError::Refused { message }) => assert_eq!(message, "The user begins."),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_template_ends() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}";
    assert!(matches!(render(loops, "{}"), Err(ChatError::Endless)));
    let calls = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
    assert!(matches!(render(calls, "{}"), Err(ChatError::Template { .. } | ChatError::Endless)));
}

#[test]
fn what_is_wrong_is_said() {
    let bad = |source: &str| ChatTemplate::new(source.to_owned(), BTreeMap::new()).unwrap_err().to_string();
    assert!(bad("{% for %}").starts_with("chat template: syntax error"), "{}", bad("{% for %}"));
    assert!(bad(&"x".repeat(MAX_TEMPLATE + 1)).contains("bytes, at most"));
    assert!(bad("{% include 'x' %}{% if %}").contains("syntax error"));
    let text = render("{{ none_such.a.b }}", "{}").unwrap_err().to_string();
    assert!(text.starts_with("chat template: undefined value"), "{text}");
    assert!(render("{{ x() }}", "{}").is_err());
    assert!(render("a", "[]").unwrap_err().to_string().contains("its variables"));
    // No file can be reached.
    assert!(render("{% include 'Cargo.toml' %}", "{}").is_err());
}

#[test]
fn the_clock_is_the_callers() {
    let time = "2026-02-03T04:05:06".parse().unwrap();
    let written = template("{{ strftime_now('%d %b %Y') }}").render(&[], Clock::At(time)).unwrap();
    assert_eq!(written, "03 Feb 2026");
    assert!(render("{{ strftime_now('%') }}", "{}").is_err());
}
