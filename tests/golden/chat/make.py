#!/usr/bin/env python3
"""Prompts that transformers makes of these templates: python make.py > cases.json

The templates are ours. They use what those of the Mamba-2 family use: roles that take turns, tools, documents, thoughts.
"""
import datetime
import json
import os

import transformers.utils.chat_template_utils as utils

HERE = os.path.dirname(os.path.abspath(__file__))
TIME = datetime.datetime(2026, 2, 3, 4, 5, 6)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "The weather <here> & \u201cthere\u201d \U0001f327", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "enum": ["K\u00f6ln", "Oslo"]}, "days": {"type": "integer"},
                                         "exact": {}}, "required": ["city"], "limits": [1, 2.5, -3, True, None, [], {}]}}}]
USER = {"role": "user", "content": "  Where does it rain? \n"}
ANSWER = {"role": "assistant", "content": "<think>\nLet me see.\n</think>\n\nIn Bergen."}
SYSTEM = {"role": "system", "content": " You are a poet. /think "}
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "weather", "arguments": {"city": "K\u00f6ln", "days": 2}}}]}
PARTS = {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "image"}, {"type": "text", "text": "tomorrow?"}]}

CONVERSATIONS = {
    "one question": {"messages": [USER], "add_generation_prompt": True},
    "no answer wanted": {"messages": [USER]},
    "a system message": {"messages": [SYSTEM, USER], "add_generation_prompt": True},
    "several turns": {"messages": [SYSTEM, USER, ANSWER, {"role": "user", "content": "Why? /no_think"}],
                      "add_generation_prompt": True},
    "the same role twice": {"messages": [USER, ANSWER, ANSWER], "add_generation_prompt": True},
    "many turns": {"messages": [USER, ANSWER] * 6 + [USER], "add_generation_prompt": True},
    "a role of its own": {"messages": [USER, {"role": "critic", "content": "Hm."}], "add_generation_prompt": True},
    "a switch": {"messages": [USER], "add_generation_prompt": True, "enable_thinking": False, "controls": {"length": "short"}},
    "tools": {"messages": [USER, CALL, {"role": "tool", "content": "rain"}], "tools": TOOLS, "add_generation_prompt": True},
    "documents": {"messages": [USER, PARTS], "tools": TOOLS, "documents": [{"text": "It rains."}, {"text": "\u00dcberall."}],
                  "add_generation_prompt": True},
}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return TIME


def render(template, variables):
    """What the template makes, or the words in which it refuses."""
    # As apply_chat_template does, which wants a tokenizer around this.
    compiled = utils._compile_jinja_template(template)
    variables = {"tools": None, "documents": None, "add_generation_prompt": False, **TOKENS, **variables}
    try:
        return {"prompt": compiled.render(**variables)}
    except Exception as e:
        return {"refused": str(e)} if type(e).__name__ == "TemplateError" else {"error": type(e).__name__}


def main():
    utils.datetime = Clock
    cases = []
    for name in sorted(x for x in os.listdir(HERE) if x.endswith(".jinja")):
        with open(os.path.join(HERE, name), encoding="utf-8") as f:
            template = f.read()
        for what, variables in CONVERSATIONS.items():
            # A text of its own keeps the order of its keys on whatever way it is read.
            text = json.dumps(variables, ensure_ascii=False)
            cases.append({"template": name, "what": what, "variables": text, **render(template, variables)})
    print(json.dumps({"tokens": TOKENS, "time": TIME.isoformat(), "cases": cases}, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
