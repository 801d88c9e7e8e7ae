# The one entry for people and for CI; every recipe is a script of scripts/ or one line of cargo.
SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin
.DEFAULT_GOAL := help
.PHONY: help setup tools demo dev test test-matrix shake check fmt audit bench chaos

help: ## show this list
	@printf 'Usage: make TARGET\n\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: ## run a job on a real model, kill the worker of another one, show both; takes a minute and ends
	@scripts/demo

test: ## run every test
	@scripts/test

test-matrix: ## the queue and fault tests against Redis 7.0, 8.2, Valkey 8, 9; all end-to-end tests in cluster mode
	@scripts/test-matrix

shake: ## every test again while one program after the other is held back at random (WHO=worker: only that one)
	@scripts/shake $(WHO)

check: ## format, lints, docs, dependency policy
	@scripts/check

dev: ## a fleet to play with on this machine; stays up until Ctrl-C
	@scripts/setup demo
	@cargo run --locked -p overshot-cli --bin overshot -- dev $(ARGS)

bench: ## the figures, as ratios taken in one run (FAST=1: a short one)
	@scripts/bench

chaos: ## break a running fleet for SECONDS=60, tell what was lost (SEED=n replays, RUNS=n repeats)
	@scripts/chaos --seconds $(or $(SECONDS),60)

fmt: ## format the code
	@cargo fmt --all

audit: ## check the dependencies against the advisory database (needs the internet)
	@cargo deny check advisories

setup: ## install what is missing to build and test (redis-server, a linker)
	@scripts/setup test

tools: ## build cargo-nextest and cargo-deny (takes minutes; test and check do without)
	@scripts/setup tools
