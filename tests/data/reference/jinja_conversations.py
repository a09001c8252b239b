"""Conversations, tools and further variables that chat templates are rendered with."""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Current weather at a place — with \"quotes\" & <tags>",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "a town"}, "days": {"type": "integer"}},
                "required": ["place"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {}}},
]


def call(name, arguments, number="1"):
    return {"id": "call_" + number, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "one question": {"messages": [{"role": "user", "content": "Wie groß ist π?"}]},
    "with system": {
        "messages": [
            {"role": "system", "content": "  Answer in one word. "},
            {"role": "user", "content": "Capital of Peru?"},
            {"role": "assistant", "content": "Lima"},
        ]
    },
    "several turns": {
        "messages": [
            {"role": "user", "content": "1 + 1?\n"},
            {"role": "assistant", "content": " 2 "},
            {"role": "user", "content": "{{ 2 }} + {% 2 %}?"},
            {"role": "assistant", "content": "4 😀"},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": ""},
        ]
    },
    "thinking in the content": {
        "messages": [
            {"role": "user", "content": "Is 7 prime?"},
            {"role": "assistant", "content": "<think>\nOnly 1 and 7 divide it.\n</think>\n\nYes."},
            {"role": "user", "content": "And 9?"},
            {"role": "assistant", "content": "<think>\n3 * 3\n</think>\n\nNo."},
        ]
    },
    "reasoning": {
        "messages": [
            {"role": "user", "content": "Is 7 prime?"},
            {"role": "assistant", "reasoning_content": "Only 1 and 7 divide it.", "content": "Yes."},
            {"role": "user", "content": "And 9?"},
            {"role": "assistant", "reasoning_content": "3 * 3\n", "content": "No."},
        ]
    },
    "tools offered": {
        "messages": [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Weather in Oslo?"}],
        "tools": TOOLS,
    },
    "tool calls": {
        "messages": [
            {"role": "user", "content": "Weather in Oslo?"},
            {"role": "assistant", "content": "", "tool_calls": [call("weather", {"place": "Oslo", "days": 2})]},
            {"role": "tool", "tool_call_id": "call_1", "content": "{\"t\": -3.5}"},
            {"role": "assistant", "content": "It is -3.5 °C."},
        ],
        "tools": TOOLS,
    },
    "tool calls with text arguments": {
        "messages": [
            {"role": "user", "content": "Weather in Oslo and the time?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [call("weather", "{\"place\": \"Oslo\"}"), call("now", "{}", "2")],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "cold"},
            {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
            {"role": "assistant", "content": "Cold, and it is noon."},
            {"role": "user", "content": "Thanks"},
        ],
        "tools": TOOLS,
    },
    "assistant first": {"messages": [{"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Hi"}]},
    "two systems": {
        "messages": [
            {"role": "system", "content": "A"},
            {"role": "system", "content": "B"},
            {"role": "user", "content": "x"},
        ]
    },
}

EXTRAS = {
    "": {},
    "thinking off": {"enable_thinking": False},
    "open thinking": {"open_thinking": True},
    "custom tools": {"custom_tools": TOOLS, "builtin_tools": ["code_interpreter", "weather"], "tools_in_user_message": False},
}
