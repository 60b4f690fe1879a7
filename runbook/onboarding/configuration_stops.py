"""What stops notebook 50, and what it warns of: each a check of the facts, without touching anything."""

from __future__ import annotations

from runbook.clients.host_file import HostFile
from runbook.errors import RunbookError
from runbook.onboarding import install_script, runner_section
from runbook.onboarding.configuration_facts import Facts
from runbook.onboarding.runner_section import Wiring
from runbook.report import Check
from runbook.runner import job_marks, keys
from runbook.runner.config_toml import Document, Runner
from runbook.runner.version import Version
from runbook.settings import Settings


def file_blockers(facts: Facts, settings: Settings) -> list[Check]:
    if settings.config.place == "copy":
        return [] if facts.file.exists else [_no_copy(facts, settings)]
    obstacle = facts.file.obstacle()
    if obstacle is None:
        return []
    return [
        Check.failed(
            "config-toml-place",
            "config.toml can be replaced on this host",
            f"{facts.file.path}: {obstacle}",
            expected="a file that this account may replace, in a folder that is there (gitlab-runner's package makes it)",
            remedy="Run the notebook as root on the runner's host (a read-only file first needs chmod u+w),\n"
            "or set config.place: copy in the cluster card.",
        )
    ]


def _no_copy(facts: Facts, settings: Settings) -> Check:
    return Check.failed(
        "config-toml-copy",
        "config.toml was copied out",
        f"there is no copy at {facts.file.path}",
        expected=f"a copy of {settings.config.path} from the runner's host",
        remedy=install_script.copy_out(settings.config.path, facts.file.path),
    )


def load_blockers(document: Document, version: Version) -> list[Check]:
    fatal = [mistake for mistake in keys.mistakes(document.values, version) if mistake.fatal]
    if not fatal:
        return []
    return [
        Check.failed(
            "config-toml-loads",
            "gitlab-runner can load config.toml",
            "\n".join(_at_line(document, mistake) for mistake in fatal),
            expected="every value of the type that gitlab-runner expects",
            remedy="Correct these lines by hand: as long as they are there, no runner of this file takes a job.",
        )
    ]


def ignored_keys(document: Document, version: Version, section: Runner) -> Check:
    """Keys of our own section that this version does not read: they were written by hand, or for another version."""
    ignored = [mistake for mistake in keys.mistakes(section.values, version, keys.RUNNER) if not mistake.fatal]
    title = "gitlab-runner reads every key of our section"
    if not ignored:
        return Check.passed("config-toml-keys", title, f"{section}, gitlab-runner {version}")
    rooted = [keys.Mistake((*section.path, *mistake.path), mistake.problem, fatal=False) for mistake in ignored]
    return Check.warned(
        "config-toml-keys",
        title,
        "\n".join(_at_line(document, mistake) for mistake in rooted),
        expected=f"keys that gitlab-runner {version} knows",
        remedy="Correct or remove these lines by hand; they have no effect.",
    )


def _at_line(document: Document, mistake: keys.Mistake) -> str:
    line = next((document.line(statement) for statement in document.statements if statement.within(mistake.path)), None)
    return f"line {line}, {mistake}" if line else str(mistake)


def section_blockers(document: Document, found: list[Runner], settings: Settings) -> list[Check]:
    title = "At most one section of config.toml is ours"
    if len(found) > 1:
        return [
            Check.failed(
                "config-toml-sections",
                title,
                "; ".join(str(runner) for runner in found),
                expected=f"one section with our mark ({job_marks.CARD} = {settings.name}), our token or our runner's id",
                remedy="Decide which one stays and remove the other by hand; both would serve the same runner.",
            )
        ]
    others = runner_section.namesakes(document, settings, found)
    foreign = [runner for runner in found if runner.get(*runner_section.MARK) not in (None, settings.name)]
    if foreign:
        mark = foreign[0].get(*runner_section.MARK)
        return [
            Check.failed(
                "config-toml-sections",
                title,
                f"{foreign[0]} has our runner's token or id, but was written from the card {mark}",
                expected="one runner in GitLab for each card",
                remedy="Give each card a runner of its own, or remove the mark from the section by hand.",
            )
        ]
    if others and not found:
        return [
            Check.failed(
                "config-toml-sections",
                title,
                f"{others[0]} has our runner's name, but neither our mark nor its token",
                expected="no other section for Kubernetes of the same name",
                remedy="Remove that section if its runner is gone, or rename one of the two (card: runner.description).\n"
                "To have it taken over, put its token where runner.token says and set runner.existing_token: true.",
            )
        ]
    return []


def size_blockers(settings: Settings, wiring: Wiring) -> list[Check]:
    """What ECI would refuse of every job pod, said before it is written."""
    try:
        runner_section.price_of(
            runner_section.wanted(settings, wiring), (settings.smoke.service_image,), wiring.version, settings
        )
    except RunbookError as error:
        return [
            Check.failed(
                "pod-size",
                "ECI has a spec for the job pods",
                "\n".join(error.lines()),
                expected=error.allowed or "",
                remedy="Correct pods in the cluster card.",
            )
        ]
    wrong = {key: value for key, value in settings.pods.custom_tags.items() if set(key + value) & set(",:")}
    if not wrong:
        return []
    return [
        Check.failed(
            "custom-tags",
            "Each tag for the bill can be written",
            ", ".join(f"{key}: {value}" for key, value in wrong.items()),
            expected="names and values without a comma or a colon, which separate them in the annotation",
            remedy="Correct pods.custom_tags in the cluster card.",
        )
    ]


def privacy(file: HostFile) -> list[Check]:
    """The file holds tokens in clear text; gitlab-runner itself gives it the mode 0600."""
    if not file.exists or not file.mode & 0o077:
        return []
    return [
        Check.warned(
            "config-toml-mode",
            "Only its owner can read config.toml",
            f"{file.path} has mode {file.mode:04o}, and holds tokens",
            expected="mode 0600",
            remedy=f"chmod 600 {file.path}",
        )
    ]


def byte_order_mark(document: Document) -> list[Check]:
    """Editors of Windows put one at the beginning; the TOML parser of older runners stumbles over it, that of newer ones does not."""
    if not document.bom:
        return []
    return [
        Check.warned(
            "config-toml-bom",
            "Every gitlab-runner can read the first line of config.toml",
            f"{document.where} begins with a byte order mark, which is kept",
            expected="plain UTF-8; an older gitlab-runner refuses the whole file for this mark",
            remedy=f"sed -i '1s/^\\xef\\xbb\\xbf//' {document.where}",
        )
    ]
