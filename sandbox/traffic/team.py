"""The team whose CI is played: its projects, their jobs, their sizes, and when people work."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class JobKind:
    """One job of a project's `.gitlab-ci.yml`. `median` and `sigma` are those of a lognormal duration in seconds.

    `share` is the part of the pipelines that have the job; `fails` and `runs_out_of_memory` are chances of one run.
    `uses_cpu` and `uses_memory` are the parts of what it asks for that a usual run uses at its peak.
    """

    name: str
    stage: str
    image: str
    cpu: str
    memory: str
    median: float
    sigma: float = 0.5
    share: float = 1.0
    fails: float = 0.04
    runs_out_of_memory: float = 0.0
    retries: int = 0
    spot: bool = False
    services: tuple[str, ...] = ()
    uses_cpu: float = 0.85
    uses_memory: float = 0.5


@dataclass(frozen=True)
class Project:
    """A project, the weight of its pipelines among the team's, and its jobs in the order of their stages."""

    id: int
    path: str
    weight: float
    jobs: tuple[JobKind, ...]
    refs: tuple[str, ...] = ("main", "feature/search", "feature/login", "fix/timeouts", "renovate/all")

    @property
    def stages(self) -> tuple[tuple[JobKind, ...], ...]:
        """The jobs, stage by stage."""
        names = dict.fromkeys(job.stage for job in self.jobs)
        return tuple(tuple(job for job in self.jobs if job.stage == name) for name in names)


WORKDAY = (
    0.2,
    0.1,
    0.3,
    0.1,
    0.1,
    0.1,
    0.3,
    0.8,
    2.0,
    4.0,
    5.0,
    4.5,
    2.0,
    3.5,
    5.0,
    5.0,
    4.5,
    3.5,
    2.0,
    1.2,
    1.0,
    0.8,
    0.5,
    0.3,
)
"""Pipelines begun in each hour of a workday, relative to each other (played UTC)."""


@dataclass(frozen=True)
class Team:
    """The projects, and how many pipelines they begin on a workday; `weekend` is the part that is left on a day off."""

    projects: tuple[Project, ...]
    pipelines_a_workday: float = 260
    weekend: float = 0.12
    hours: tuple[float, ...] = field(default=WORKDAY)


_JAVA = "maven:3.9-eclipse-temurin-21"
_NODE = "registry.cn-hangzhou.aliyuncs.com/practice/build-node:20"

TEAM = Team(
    (
        Project(
            101,
            "practice/shop/storefront",
            30,
            (
                JobKind("install", "build", _NODE, "2", "4Gi", 95),
                JobKind("lint", "test", _NODE, "1", "2Gi", 40, fails=0.07, uses_memory=0.4),
                JobKind("unit tests", "test", _NODE, "2", "4Gi", 150, fails=0.06),
                JobKind(
                    "browser tests", "test", "debian:12", "4", "8Gi", 520, share=0.6, fails=0.09, retries=1, spot=True
                ),
                JobKind("publish", "deploy", "alpine:3.20", "250m", "512Mi", 25, share=0.3, fails=0.01, uses_cpu=0.4),
            ),
        ),
        Project(
            102,
            "practice/shop/orders",
            25,
            (
                JobKind("compile", "build", _JAVA, "4", "8Gi", 180, runs_out_of_memory=0.004, uses_memory=0.65),
                JobKind(
                    "integration",
                    "test",
                    _JAVA,
                    "4",
                    "8Gi",
                    430,
                    fails=0.06,
                    retries=1,
                    services=("postgres:16", "redis:7"),
                ),
                JobKind("static analysis", "test", _JAVA, "2", "6Gi", 240, runs_out_of_memory=0.01, uses_memory=0.7),
                JobKind("image", "package", "kaniko:v1.23", "2", "4Gi", 130, share=0.5, fails=0.02, uses_cpu=0.5),
            ),
        ),
        Project(
            103,
            "practice/platform/gateway",
            15,
            (
                JobKind("test", "test", "golang:1.24", "4", "4Gi", 110),
                JobKind(
                    "race", "test", "golang:1.24", "8", "16Gi", 300, share=0.5, spot=True, retries=1, uses_memory=0.35
                ),
                JobKind("build", "build image", "kaniko:v1.23", "2", "4Gi", 90, fails=0.02),
            ),
        ),
        Project(
            104,
            "practice/data/forecast",
            8,
            (
                JobKind("tests", "test", "python:3.12", "2", "8Gi", 260, runs_out_of_memory=0.02, uses_memory=0.7),
                JobKind(
                    "train",
                    "train",
                    "python:3.12",
                    "8",
                    "32Gi",
                    6300,
                    0.6,
                    share=0.35,
                    fails=0.05,
                    retries=1,
                    spot=True,
                ),
                JobKind(
                    "score",
                    "score",
                    "python:3.12",
                    "4",
                    "16Gi",
                    600,
                    share=0.35,
                    fails=0.03,
                    uses_cpu=0.4,
                    uses_memory=0.25,
                ),
            ),
        ),
        Project(
            105,
            "practice/platform/docs",
            12,
            (JobKind("pages", "deploy", "ruby:3.3", "1", "2Gi", 55, fails=0.02, uses_memory=0.3),),
        ),
        Project(
            106,
            "practice/device/firmware",
            10,
            (
                JobKind("cross compile", "build", "gcc:14", "8", "16Gi", 900, 0.4, uses_cpu=0.95, uses_memory=0.45),
                JobKind(
                    "simulation",
                    "test",
                    "ubuntu:24.04",
                    "16",
                    "32Gi",
                    4800,
                    0.5,
                    share=0.5,
                    retries=1,
                    spot=True,
                    uses_memory=0.3,
                ),
            ),
        ),
    )
)
