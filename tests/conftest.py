"""Fixtures live in small plugin modules; this file only names them."""

pytest_plugins = [
    "pytester",
    "tests.fix_browser",
    "tests.fix_data",
    "tests.fix_kafka",
    "tests.fix_collector",
    "tests.fix_hypothesis",
    "tests.fix_logging",
    "tests.fix_page",
    "tests.fix_postgres",
    "tests.fix_skips",
    "tests.fix_views",
    "tests.fix_websocket",
]
