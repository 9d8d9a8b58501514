%% @doc What a restarted worker runs again.
-module(py_journal_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2, log/2]).
-export([
    code_is_kept_in_order/1,
    code_that_is_run_again_moves_to_the_end/1,
    code_that_failed_is_removed/1,
    numbers_only_grow/1,
    pools_are_apart/1,
    too_many_entries/1,
    too_many_bytes/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        code_is_kept_in_order,
        code_that_is_run_again_moves_to_the_end,
        code_that_failed_is_removed,
        numbers_only_grow,
        pools_are_apart,
        too_many_entries,
        too_many_bytes
    ].

%% The case's process owns the table.
-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    ok = py_journal:tables(),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    true = ets:delete(py_journal),
    ok.

-spec code_is_kept_in_order(ct_suite:ct_config()) -> ok.
code_is_kept_in_order(_Config) ->
    ?assertEqual({0, []}, py_journal:read(p)),
    [ok = py_journal:add(p, Code) || Code <- [<<"b">>, <<"a">>, <<"c">>]],
    ?assertEqual({3, [<<"b">>, <<"a">>, <<"c">>]}, py_journal:read(p)),
    ?assertEqual([{2, <<"a">>}, {3, <<"c">>}], py_journal:since(p, 1)),
    ?assertEqual([], py_journal:since(p, 3)),
    ?assertEqual(3, py_journal:length(p)).

%% It is kept once: definitions that are sent again and again take no room.
-spec code_that_is_run_again_moves_to_the_end(ct_suite:ct_config()) -> ok.
code_that_is_run_again_moves_to_the_end(_Config) ->
    [ok = py_journal:add(p, Code) || Code <- [<<"a">>, <<"b">>, <<"a">>]],
    ?assertEqual({3, [<<"b">>, <<"a">>]}, py_journal:read(p)),
    %% A worker that ran the first two runs it again.
    ?assertEqual([{3, <<"a">>}], py_journal:since(p, 2)).

-spec code_that_failed_is_removed(ct_suite:ct_config()) -> ok.
code_that_failed_is_removed(_Config) ->
    [ok = py_journal:add(p, Code) || Code <- [<<"a">>, <<"b">>]],
    ok = py_journal:remove(p, <<"a">>),
    ok = py_journal:remove(p, <<"never there">>),
    ?assertEqual({2, [<<"b">>]}, py_journal:read(p)).

%% A number says how far a worker is, so none is used twice, even if its code is gone.
-spec numbers_only_grow(ct_suite:ct_config()) -> ok.
numbers_only_grow(_Config) ->
    ok = py_journal:add(p, <<"a">>),
    ok = py_journal:remove(p, <<"a">>),
    ?assertEqual(1, py_journal:last(p)),
    ok = py_journal:add(p, <<"b">>),
    ?assertEqual([{2, <<"b">>}], py_journal:since(p, 0)).

-spec pools_are_apart(ct_suite:ct_config()) -> ok.
pools_are_apart(_Config) ->
    Pools = [p, q, self()],
    [ok = py_journal:add(Pool, term_to_binary(Pool)) || Pool <- Pools],
    [?assertEqual({1, [term_to_binary(Pool)]}, py_journal:read(Pool)) || Pool <- Pools],
    ok = py_journal:forget(q),
    ?assertEqual({0, []}, py_journal:read(q)),
    ?assertEqual({1, [term_to_binary(p)]}, py_journal:read(p)).

%% Past 1,000 entries code is not kept, and the log says so; what was kept stays.
-spec too_many_entries(ct_suite:ct_config()) -> ok.
too_many_entries(_Config) ->
    Codes = [integer_to_binary(N) || N <- lists:seq(1, 1000)],
    ?assertEqual([], warnings(fun() -> [py_journal:add(p, Code) || Code <- Codes] end)),
    [Report] = warnings(fun() -> py_journal:add(p, <<"one more">>) end),
    ?assertMatch(#{pool := p, entries := 1000, advice := _}, Report),
    %% It has a number: those that ran it are no more behind than those that did not.
    ?assertEqual({1001, Codes}, py_journal:read(p)),
    %% Code that is there already replaces itself.
    ?assertEqual([], warnings(fun() -> py_journal:add(p, <<"1">>) end)),
    ?assertEqual({1002, tl(Codes) ++ [<<"1">>]}, py_journal:read(p)).

%% The same past 16 MiB.
-spec too_many_bytes(ct_suite:ct_config()) -> ok.
too_many_bytes(_Config) ->
    Large = binary:copy(<<"#">>, 16 * 1024 * 1024 - 1),
    ?assertEqual([], warnings(fun() -> py_journal:add(p, Large) end)),
    ?assertEqual([], warnings(fun() -> py_journal:add(p, <<"a">>) end)),
    ?assertMatch([#{bytes := 16777217}], warnings(fun() -> py_journal:add(p, <<"b">>) end)),
    ?assertEqual({3, [Large, <<"a">>]}, py_journal:read(p)).

warnings(Fun) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => warning, config => #{to => self()}}),
    try
        Fun()
    after
        ok = logger:remove_handler(?MODULE)
    end,
    reports().

%% @doc A handler that sends reports on.
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{msg := {report, Report}}, #{config := #{to := To}}) ->
    To ! {report, Report},
    ok;
log(_Event, _Config) ->
    ok.

reports() ->
    receive
        {report, Report} -> [Report | reports()]
    after 0 -> []
    end.
