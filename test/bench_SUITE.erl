%% @doc The benchmarks run: their native writer speaks the protocol that the rest speaks.
-module(bench_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([a_section_is_measured/1, an_unknown_section_is_named/1]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 3}}].

-spec all() -> [atom()].
all() ->
    [a_section_is_measured, an_unknown_section_is_named].

%% Streams of Python and of the native writer, each beside the other, give figures.
-spec a_section_is_measured(ct_suite:ct_config()) -> ok.
a_section_is_measured(_Config) ->
    {0, Output} = bench(["quick", "batch"]),
    [
        ?assertMatch({match, _}, re:run(Output, Series ++ " +\\d+ events/s +\\d+\\.\\d+ of native"))
     || Series <- ["native", "python"]
    ],
    ok.

%% A section that there is not ends the run with the names of those that there are.
-spec an_unknown_section_is_named(ct_suite:ct_config()) -> ok.
an_unknown_section_is_named(_Config) ->
    {Status, Output} = bench(["quick", "nonesuch"]),
    ?assertNotEqual(0, Status),
    ?assertMatch({match, _}, re:run(Output, "no_such_section,nonesuch.*ints", [dotall])).

bench(Arguments) ->
    Root = test_program:root(),
    {Status, Output} = test_program:run("script/bench", Arguments, #{cd => Root}),
    ct:log("~ts", [Output]),
    {Status, Output}.
