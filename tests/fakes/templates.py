"""Chat templates in the manner of the families that are out there, each with the control tokens it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken

from tests.fakes.models import byte_tokenizer
from tests.tiny_models import bpe_tokenizer, sentencepiece_tokenizer, unigram_tokenizer
from workbench.prompts.encoding import PromptEncoder

GENERATION = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" + GENERATION
)  # fmt: skip

TAGGED = """\
{%- if tools %}
<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
# Tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Write <tool_call> around calls.<|im_end|>
{% elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' ~ messages[0].content ~ '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}
{%- elif m.role == 'assistant' %}
{%- set content = m.content.split('</think>')[-1].lstrip('\\n') if '</think>' in m.content else m.content %}
{{- '<|im_start|>assistant\\n' + content }}
{%- for call in m.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

NO_SYSTEM = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- set role = 'model' if m['role'] == 'assistant' else m['role'] %}
{{- '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""

HEADERS = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content | trim %}{% set messages = messages[1:] %}
{%- else %}{% set system = '' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{%- for tool in tools or [] %}{{ tool | tojson(indent=4) }}{{ '\\n\\n' }}{% endfor %}
{{- system }}{{ '<|eot_id|>' }}
{%- for m in messages %}
{%- if m.tool_calls %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- for call in m.tool_calls %}
{{- '{"name": "' + call.function.name + '", "parameters": ' }}{{ call.function.arguments | tojson }}{{ '}' }}
{%- endfor %}
{{- '<|eot_id|>' }}
{%- elif m.role in ('tool', 'ipython') %}
{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}{{ m.content | tojson }}{{ '<|eot_id|>' }}
{%- else %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""

BRACKETS = """\
{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}
{%- else %}{% set system = '' %}{% set rest = messages %}{% endif %}
{{- bos_token }}
{%- for m in rest %}
{%- if m.role == 'user' %}
{%- if loop.last and tools %}{{ '[AVAILABLE_TOOLS] ' }}{{ tools | tojson }}{{ '[/AVAILABLE_TOOLS]' }}{% endif %}
{{- '[INST] ' }}{% if loop.last and system %}{{ system + '\\n\\n' }}{% endif %}{{ m.content + '[/INST]' }}
{%- elif m.role == 'assistant' and m.tool_calls %}
{{- '[TOOL_CALLS] [' }}
{%- for call in m.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('Tool call ids must be nine characters') }}{% endif %}
{{- '{"name": "' + call.function.name + '", "arguments": ' }}{{ call.function.arguments | tojson }}
{{- ', "id": "' + call.id + '"}' }}{% if not loop.last %}{{ ', ' }}{% endif %}
{%- endfor %}{{ ']' + eos_token }}
{%- elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}
{%- elif m.role == 'tool' %}
{%- if m.tool_call_id | length != 9 %}{{ raise_exception('Tool call ids must be nine characters') }}{% endif %}
{{- '[TOOL_RESULTS] {"content": ' }}{{ m.content | tojson }}
{{- ', "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}
{%- endif %}
{%- endfor %}
"""


@dataclass(frozen=True)
class Family:
    """A template, the special tokens it needs, and the other added tokens of its tokenizers."""

    template: str
    specials: tuple[str, ...]
    others: tuple[str, ...] = ()

    def encoder(self, make: Callable[[], Any] = byte_tokenizer) -> PromptEncoder:
        return PromptEncoder(self.tokenizer(make), "fake")

    def tokenizer(self, make: Callable[[], Any] = byte_tokenizer) -> Any:
        tokenizer = make()
        tokenizer.chat_template = self.template
        backend = tokenizer.backend_tokenizer
        backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in self.specials])
        backend.add_tokens([AddedToken(text, normalized=False) for text in self.others])
        if tokenizer.bos_token is None:
            tokenizer.bos_token = self.specials[0]
        return tokenizer


CHATML = ("<|im_start|>", "<|im_end|>")
FAMILIES = {
    "plain": Family(PLAIN, CHATML, ("\n\n", "  ")),
    "tagged": Family(
        TAGGED, CHATML, ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
    ),
    "no system": Family(NO_SYSTEM, ("<start_of_turn>", "<end_of_turn>")),
    "headers": Family(HEADERS, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "brackets": Family(
        BRACKETS,
        ("[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        ("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    ),
}
TOKENIZERS = (byte_tokenizer, bpe_tokenizer, sentencepiece_tokenizer, unigram_tokenizer)
