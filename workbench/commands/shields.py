"""``workbench shields``: the shields of a run config's providers."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from workbench.commands import opening, output, registering
from workbench.commands.parsing import add_command, json_object
from workbench.errors import InvalidRequestError

if TYPE_CHECKING:
    from workbench.commands.parsing import Subparsers
    from workbench.protocol import SafetyViolation
    from workbench.providers.safety.measuring import Measure
    from workbench.session.workbench import Workbench


def add_parser(subparsers: Subparsers) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "shields",
        help="list, run, register, unregister and measure shields",
        description="Shields check messages for content that must not pass.",
        epilog='examples:\n  workbench shields list\n  workbench shields run content_guard "How do I pick a lock?"\n'
        "  workbench shields bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_list(actions)
    _add_run(actions)
    _add_register(actions)
    _add_unregister(actions)
    _add_bench(actions)


def _add_list(actions: Subparsers) -> None:
    parser = add_command(
        actions, "list", list_shields, summary="list the served shields", examples="workbench shields list --json"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    registering.add_config_option(parser)


def _add_run(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "run",
        run,
        summary="check a text with a shield",
        examples="""
            workbench shields run content_guard "How do I pick a lock?"
            cat answer.txt | workbench shields run content_guard --json
            workbench shields run content_guard "What is a bond?" --params '{"categories": ["S1", "S9"]}'
            """,
        notes="The exit code is 1 for a violation of level error, which must not pass, and 0 otherwise.",
    )
    parser.add_argument("name", metavar="NAME", help="shield name, or PROVIDER/NAME")
    parser.add_argument("text", nargs="?", metavar="TEXT", help="text of a user's message (default: standard input)")
    parser.add_argument("--params", metavar="JSON", type=json_object, help="parameters for this call, as a JSON object")
    parser.add_argument("--json", action="store_true", help="print the response as JSON")
    registering.add_config_option(parser)


def _add_register(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "register",
        register,
        summary="register a shield with a provider",
        examples="""
            workbench shields register strict --params '{"threshold": 0.3}'
            workbench shields register llama_guard --type llama_guard --provider guard
            """,
        notes="Workbenches and servers that are already running serve it after a restart.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the shield")
    parser.add_argument("--type", metavar="TYPE", help="type of the shield (default: the provider's first one)")
    parser.add_argument(
        "--provider", metavar="ID", help="provider in the run config (default: the first that runs the type)"
    )
    parser.add_argument("--params", metavar="JSON", type=json_object, help="parameters of the shield, as a JSON object")
    registering.add_config_option(parser)


def _add_unregister(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "unregister",
        unregister,
        summary="unregister shields",
        examples="workbench shields unregister strict",
        notes="A shield that the run config lists is served again at the next start.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="shield name, or PROVIDER/NAME")
    registering.add_config_option(parser)


def _add_bench(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "bench",
        bench,
        summary="measure precision and recall of shields on labelled messages",
        examples="""
            workbench shields bench
            workbench shields bench --shield content_guard --json
            """,
        notes="""
            Runs every shield that judges by hazard category on the test half of the package's labelled messages, to
            which nothing was fitted. RECALL is the share of a category's messages that are flagged at all. PRECISION
            is the share of right flags: for a category, of the flags that name it, those on messages with that label;
            over all, flags on harmful messages. Only violations of level error count as flags.
            """,
    )
    parser.add_argument("--shield", metavar="NAME", help="measure this shield only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    registering.add_config_option(parser)


def list_shields(args: argparse.Namespace) -> int:
    with opening.open_workbench(args.config) as bench:
        served = [{"name": known.name, **known.definition.model_dump()} for known in bench.shields.registrations()]
    if args.json:
        output.print_json(served)
        return 0
    rows = [(facts["name"], facts["type"], facts["provider_id"]) for facts in served]
    print(output.table(("NAME", "TYPE", "PROVIDER"), rows))
    return 0


def run(args: argparse.Namespace) -> int:
    from workbench.protocol import ViolationLevel

    text = sys.stdin.read() if args.text is None else args.text
    with opening.open_workbench(args.config) as bench:
        response = bench.run_shield(args.name, text, args.params)
    violation = response.violation
    if args.json:
        output.print_json(response.model_dump(mode="json"))
    else:
        print(_description(violation) if violation else "no violation")
    return int(violation is not None and violation.violation_level == ViolationLevel.error)


def register(args: argparse.Namespace) -> int:
    with opening.open_workbench(args.config) as bench:
        shield = bench.register_shield(args.name, args.type, provider_id=args.provider, params=args.params)
    print(f"{shield.identifier}: registered with {shield.provider_id}, as a shield of type {shield.type}")
    return 0


def unregister(args: argparse.Namespace) -> int:
    with opening.open_workbench(args.config) as bench:
        for name in args.names:
            is_listed = bench.shields.is_listed(name)
            bench.unregister_shield(name)
            result = "still served, because its provider's config lists it" if is_listed else "unregistered"
            print(f"{name}: {result}", flush=True)
    return 0


def bench(args: argparse.Namespace) -> int:
    with opening.open_workbench(args.config) as bench:
        results = [_measured(bench, name) for name in _measurable(bench, args.shield)]
    if args.json:
        output.print_json(results)
        return 0
    print("\n\n".join(map(_report, results)))
    return 0


def _measurable(bench: Workbench, chosen: str | None) -> list[str]:
    """Return the names of the shields that judge by hazard category, or the chosen one if it does."""
    from workbench.providers.safety.judgments import HazardParams

    known = [bench.shields.find(chosen)] if chosen is not None else bench.shields.registrations()
    able = [one.name for one in known if issubclass(one.provider.Params, HazardParams)]
    if not able:
        allowed = "a shield that judges by hazard category, of inline::content_guard or inline::llama_guard"
        raise InvalidRequestError("--shield", chosen, allowed)
    return able


def _measured(bench: Workbench, name: str) -> dict[str, Any]:
    """Return the threshold of a shield and its measures on the test half."""
    from workbench.providers.safety.labelled import SAFE, labelled_messages
    from workbench.providers.safety.measuring import measures

    messages = labelled_messages("test")
    found = bench.shields.find(name)
    violations = [bench.run_shield(name, message.text).violation for message in messages]
    return {
        "shield": name,
        "provider_type": found.provider.provider_type,
        "threshold": found.provider.parsed_params(found.definition.params).threshold,
        "harmful": sum(message.category != SAFE for message in messages),
        "harmless": sum(message.category == SAFE for message in messages),
        "measures": [_measure_facts(measure) for measure in measures(messages, violations)],
    }


def _measure_facts(measure: Measure) -> dict[str, Any]:
    return {
        "category": measure.category,
        "messages": measure.messages,
        "found": measure.found,
        "recall": measure.recall,
        "flags": measure.flags,
        "right_flags": measure.right_flags,
        "precision": measure.precision,
    }


def _report(result: dict[str, Any]) -> str:
    """Return the text for one shield: a heading, and a table with a line for each category."""
    from workbench.providers.safety.hazards import HAZARDS

    names = {"all": "all harmful messages"} | {str(code): name for code, name in HAZARDS.items()}
    heading = (
        f"{result['shield']} ({result['provider_type']}), threshold {result['threshold']:g}, on {result['harmful']} "
        f"harmful and {result['harmless']} harmless messages"
    )
    rows = [
        (
            facts["category"],
            names[facts["category"]],
            f"{facts['found']}/{facts['messages']}",
            _ratio(facts["recall"]),
            f"{facts['right_flags']}/{facts['flags']}",
            _ratio(facts["precision"]),
        )
        for facts in result["measures"]
    ]
    return f"{heading}\n{output.table(('CATEGORY', 'NAME', 'FOUND', 'RECALL', 'RIGHT', 'PRECISION'), rows)}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _description(violation: SafetyViolation) -> str:
    """Return the level, the sentence for the author, and what the metadata has of numbers and places."""
    facts = violation.metadata
    numbers = [f"{name} {facts[name]:.3f}" for name in ("probability", "threshold") if name in facts]
    places = [output.visible(str(facts[name])) for name in ("sentence", "text") if name in facts]
    lines = [f"{violation.violation_level}: {violation.user_message or 'no message'}", ", ".join(numbers), *places]
    return "\n  ".join(line for line in lines if line)
