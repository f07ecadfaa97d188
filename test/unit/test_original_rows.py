"""The list of everything that the original is known to do wrong, and the test that is named after it.

A row that is added here needs a test, and a test of a defect needs its row.
"""

from __future__ import annotations

import importlib
import inspect

import pytest

from mistamover.config import targets

#: Where the tests are: `integration.test_original_defects` unless a row says otherwise.
MANNERS, OLD, HANDSHAKE = "original_manners", "handshake_old", "handshake"

DATA_LOSS: dict[str, tuple[str, ...]] = {
    "mirror deletes its source": ("mirror_deletes_the_source",),
    "a negative receipt deletes the source": (f"{OLD}:a_negative_receipt_removes_the_source",),
    "an unparsable receipt deletes the source": (f"{OLD}:an_unreadable_receipt_removes_the_source",),
    "the control file comes before the data": (f"{OLD}:a_control_file_before_its_data_is_refused",),
    "incoming on another filesystem": (f"{HANDSHAKE}:incoming_on_another_filesystem_loses_the_data",),
    "--size-only and a stale target": ("size_only_leaves_a_stale_target",),
    "a zip drops links, empty directories, special files": ("a_zip_drops_links_empty_directories_and_special_files",),
    "a zip overwrites an existing zip": ("a_zip_overwrites_an_existing_one",),
    "the directory is deleted before its zip is sent": ("a_directory_is_removed_before_its_zip_is_sent",),
    "a slow writer": ("a_slow_writer_is_sent_truncated_and_removed",),
    "the gap between check and delete": ("what_is_appended_between_check_and_removal_is_lost",),
    "the delete does not look at time and size again": ("what_is_rewritten_during_a_push_is_removed_unseen",),
    "no fsync": ("nothing_is_flushed_before_the_source_goes",),
    "the target is written in place": ("readers_at_the_target_see_half_a_file",),
}
LIVENESS: dict[str, tuple[str, ...]] = {
    "fake masters, duplicates, no exit, no restart": ("an_exit_makes_a_second_master",),
    "orphans after a crash or HUP of the master": ("children_are_orphaned_when_the_master_dies",),
    "a failing ssh looks like a stop file": ("a_failing_ssh_looks_like_a_stop_file",),
    "no time limit on any command": ("a_command_that_never_ends_blocks_for_ever",),
    "endless pushes": (
        f"{OLD}:a_receipt_that_comes_late_makes_an_endless_push",
        f"{OLD}:repeated_pushes_are_answered_and_delivered_once",
    ),
    "descriptors leak": ("descriptors_leak_with_every_item",),
    "e-mail hangs the stream": ("sending_an_alert_hangs_the_stream",),
    "a dangling link kills the stream": ("a_dangling_link_kills_the_stream",),
    "a file that vanishes kills the stream": ("a_file_that_vanishes_kills_the_stream",),
    "one slow or refused item blocks all behind it": (
        "one_slow_item_blocks_all_behind_it",
        "one_refused_item_blocks_all_behind_it",
    ),
    "a removal from the list skips the next stream": ("a_stream_that_is_removed_makes_the_next_one_be_skipped",),
    "new streams get no disk monitor": ("a_stream_that_comes_later_has_no_disk_monitor",),
}
SPEED: dict[str, tuple[str, ...]] = {
    "each item: a sleep of 5 s, two connections, no batches, no reuse": (
        f"{MANNERS}:each_item_costs_seconds_and_connections",
    ),
    "each receipt: a third connection, 3 to 13 s of sleeps": (f"{MANNERS}:each_receipt_costs_seconds_of_polling",),
    "no parallelism within a stream": ("one_slow_item_blocks_all_behind_it",),
    "no inotify": (f"{MANNERS}:nothing_is_noticed_before_the_next_scan",),
    "always -z": (f"{MANNERS}:everything_is_compressed",),
    "MD5 at each attempt": (f"{MANNERS}:content_is_hashed_at_each_attempt",),
    "each scan lists and asks for everything": (f"{MANNERS}:each_scan_asks_for_every_file",),
    "the volume of logs is quadratic": (f"{MANNERS}:log_lines_grow_with_the_square_of_items",),
}
SAFETY: dict[str, tuple[str, ...]] = {
    "names are run by a shell": (f"{MANNERS}:names_are_run_by_a_shell",),
    "blanks, quotes, $, *, newline, leading - in names": (
        f"{MANNERS}:names_are_run_by_a_shell",
        f"{MANNERS}:odd_names_are_never_moved",
    ),
    "pickle over TCP": (f"{MANNERS}:anybody_can_connect_to_the_log_server",),
    "eval in the configuration": (f"{MANNERS}:configuration_is_evaluated_as_python",),
    "passwords in temporary files and arguments": (f"{MANNERS}:passwords_are_seen_in_arguments_and_temporary_files",),
    "a newline breaks the control file": (f"{MANNERS}:a_newline_breaks_the_control_file",),
}
SEMANTICS: dict[str, tuple[str, ...]] = {
    "a mirrored directory arrives as T/f/f": (f"{MANNERS}:a_mirrored_directory_arrives_nested_in_itself",),
    "outgoing:transfer_mode, always_zip, transfer_unit are dead": (
        f"{MANNERS}:transfer_mode_always_zip_and_transfer_unit_are_dead",
    ),
    "STOPPED at the start is ignored": (f"{MANNERS}:stopped_at_the_start_is_ignored",),
    "a local .stop is ignored": (f"{MANNERS}:a_stop_file_in_the_own_directory_is_ignored",),
    "quarantine never moves": (f"{MANNERS}:what_is_quarantined_stays_where_it_is",),
    "failures never alert": (f"{MANNERS}:failures_never_alert",),
    "one mode only for stream files": (f"{MANNERS}:a_stream_file_must_have_one_mode",),
    "a directory of stream files crashes the master": (f"{MANNERS}:a_directory_of_stream_files_crashes_the_master",),
    "the command line is not the documented one": (f"{MANNERS}:the_command_line_is_not_the_documented_one",),
    "status 0 on errors": (f"{MANNERS}:errors_end_with_status_0",),
    "noise on stdout every 30 s": (f"{MANNERS}:it_prints_something_every_thirty_seconds",),
}

#: Rows about protocols: they need a test once the protocol is there.
OF_PROTOCOLS: dict[str, dict[str, tuple[str, ...]]] = {
    "ftp": {
        "ftp: a failed put ends with status 0, and the source is deleted": (
            "original_defects_ftp:a_put_that_fails_removes_the_source",
        ),
        "ftp: the target is written in place": ("original_defects_ftp:files_are_written_in_place",),
        "ftp: the password lies in a temporary file": ("original_defects_ftp:the_password_is_in_temporary_files",),
        "ftp: a refusal kills the stream": ("original_defects_ftp:what_is_refused_kills_the_stream",),
    },
    "rsync_native": {
        "rsync_native: the password lies in a temporary file": (
            "original_defects_native:the_password_is_in_temporary_files",
        ),
        "rsync_native: a refusal kills the stream": ("original_defects_native:what_is_refused_kills_the_stream",),
    },
}

ALL = {**DATA_LOSS, **LIVENESS, **SPEED, **SAFETY, **SEMANTICS}


def named(test: str) -> tuple[str, str]:
    """Given a test as it stands in a row, return its module and its function."""
    module, _, name = test.rpartition(":")
    return f"integration.test_{module or 'original_defects'}", f"test_{name}"


@pytest.mark.parametrize("row", ALL)
def test_every_row_has_a_test(row: str) -> None:
    assert ALL[row]
    for module, name in map(named, ALL[row]):
        assert callable(getattr(importlib.import_module(module), name, None)), f"{row}: there is no {name} in {module}"


@pytest.mark.parametrize("protocol", OF_PROTOCOLS)
def test_a_protocol_comes_with_tests_of_its_rows(protocol: str) -> None:
    if protocol not in targets.names():
        assert not any(OF_PROTOCOLS[protocol].values()), f"{protocol} is not there yet"
        return
    for row, tests in OF_PROTOCOLS[protocol].items():
        assert tests, f"{protocol} works now, and no test is named after: {row}"
        for module, name in map(named, tests):
            assert callable(getattr(importlib.import_module(module), name, None)), row


@pytest.mark.parametrize("module", ["original_defects", MANNERS])
def test_every_test_has_a_row(module: str) -> None:
    listed = {named(test) for rows in (ALL, *OF_PROTOCOLS.values()) for tests in rows.values() for test in tests}
    whole = f"integration.test_{module}"
    functions = inspect.getmembers(importlib.import_module(whole), inspect.isfunction)
    ours = {(whole, name) for name, function in functions if name.startswith("test_") and function.__module__ == whole}
    assert ours <= listed, ours - listed
