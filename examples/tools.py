"""Let a model call a tool and use its result."""

import asyncio

from llm_master import QueryLLM

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def get_weather(city: str) -> str:
    return f"It is sunny in {city}."


async def main() -> None:
    messages = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
    async with QueryLLM() as llm:
        response = await llm.query("local", messages, tools=TOOLS, tool_choice="required", temperature=0)
        messages.append(response.message)
        for call in response.tool_calls:
            print("the model calls", call.name, call.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": get_weather(**call.arguments)})
        response = await llm.query("local", messages, temperature=0, max_tokens=40)
        print(response.content)


asyncio.run(main())
