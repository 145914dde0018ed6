from .anthropic_client import AnthropicClient
from .budget import Budget
from .client import Client, Reply
from .generator import Generator, Settings
from .openai_client import OpenAIClient
from .output import Output
from .pace import Pace
from .plan import Plan, Topic, read_plan
from .prompt import Prompt, write_prompt

__all__ = [
    "AnthropicClient",
    "Budget",
    "Client",
    "Generator",
    "OpenAIClient",
    "Output",
    "Pace",
    "Plan",
    "Prompt",
    "Reply",
    "Settings",
    "Topic",
    "read_plan",
    "write_prompt",
]
