%% @doc Which options there are, what each may be, and what it is if it is not given.
-module(py_options_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    good_values/1,
    bad_values/1,
    unknown_options/1,
    no_map/1,
    the_nearer_default_wins/1,
    a_pool_gives_calls_what_concerns_them/1,
    a_pool_has_all_defaults/1,
    a_worker_has_no_number_of_workers/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        good_values,
        bad_values,
        unknown_options,
        no_map,
        the_nearer_default_wins,
        a_pool_gives_calls_what_concerns_them,
        a_pool_has_all_defaults,
        a_worker_has_no_number_of_workers
    ].

-define(MOST, 16#7ffffffffffffff).

%% Every option takes its smallest and its largest values, and comes out as it was given.
-spec good_values(ct_suite:ct_config()) -> ok.
good_values(_Config) ->
    [
        ?assertMatch({Kind, Key, #{Key := Value}}, {Kind, Key, check(Kind, #{Key => Value})})
     || {Kind, Key, Values, _} <- options(), Value <- Values
    ],
    ok.

%% Everything else is refused by name.
-spec bad_values(ct_suite:ct_config()) -> ok.
bad_values(_Config) ->
    [
        ?assertError({badopt, {Key, Value}}, check(Kind, #{Key => Value}))
     || {Kind, Key, _, Values} <- options(), Value <- Values ++ [{a, b, c}, 1.5, #{1 => 2}, fun() -> ok end],
        not (Key =:= kwargs andalso is_map(Value))
    ],
    ok.

%% An option of another kind is as unknown as one that is misspelled.
-spec unknown_options(ct_suite:ct_config()) -> ok.
unknown_options(_Config) ->
    Unknown = [
        {stream, [widnow, workers, replay]},
        {collect, [owner, demand, workers, kwargs]},
        {call, [window, owner, replay, batch, kwargs]},
        {exec, [window, owner, kwargs]},
        {pool, [pool, owner, timeout, kwargs, workerz, <<"workers">>]},
        {worker, [pool, workers]}
    ],
    [
        ?assertError({badopt, {Key, 1}}, check(Kind, #{Key => 1}))
     || {Kind, Keys} <- Unknown, Key <- Keys
    ],
    ok.

-spec no_map(ct_suite:ct_config()) -> ok.
no_map(_Config) ->
    [
        ?assertError({badopt, {options, Opts}}, check(Kind, Opts))
     || Kind <- [stream, collect, call, exec, pool, worker], Opts <- [[1], [{a, b, c}], [{a, 1} | b], none, 1]
    ],
    ok.

%% The request's own option, then the pool's, then the default.
-spec the_nearer_default_wins(ct_suite:ct_config()) -> ok.
the_nearer_default_wins(_Config) ->
    ?assertMatch(
        #{window := 1024, window_bytes := 4194304, format := term, timeout := infinity, binaries := str, atoms := atom, traceback := false},
        py_options:stream(#{}, #{})
    ),
    Pool = #{window => 5, binaries => bytes, atoms => str, traceback => true},
    ?assertMatch(#{window := 5, window_bytes := 4194304, binaries := bytes, atoms := str}, py_options:stream(#{}, Pool)),
    ?assertMatch(#{window := 6, traceback := true}, py_options:stream(#{window => 6}, Pool)),
    ?assertMatch(#{window := 5, traceback := false}, py_options:collect(#{traceback => false}, Pool)),
    ?assertMatch(#{timeout := 30000, binaries := str, atoms := atom, traceback := false}, py_options:call(#{}, #{})),
    ?assertMatch(#{timeout := 7, binaries := str, atoms := str, traceback := true}, py_options:call(#{timeout => 7, binaries => str}, Pool)),
    ?assertMatch(#{replay := true, timeout := 30000, binaries := bytes}, py_options:exec(#{}, Pool)),
    ?assertMatch(#{replay := false, timeout := 7}, py_options:exec(#{replay => false, timeout => 7}, Pool)).

%% What a pool has for streams alone does not come out of a call's options.
-spec a_pool_gives_calls_what_concerns_them(ct_suite:ct_config()) -> ok.
a_pool_gives_calls_what_concerns_them(_Config) ->
    Defaults = #{window => 5, window_bytes => 6, binaries => bytes, traceback => true},
    [
        ?assertEqual([], [Key || Key <- [window, window_bytes], is_map_key(Key, check(Kind, #{}, Defaults))])
     || Kind <- [call, exec]
    ],
    ok.

-spec a_pool_has_all_defaults(ct_suite:ct_config()) -> ok.
a_pool_has_all_defaults(_Config) ->
    Schedulers = erlang:system_info(schedulers_online),
    ?assertMatch(
        #{
            workers := Schedulers,
            requirements := [],
            python_path := [],
            env := [],
            preload := [],
            max_streams := 10000,
            max_threads := 1024,
            thread := any,
            memory_limit := infinity,
            none := none,
            allow := all,
            interrupt_after := 1000,
            kill_after := infinity,
            start_timeout := 30000
        },
        py_options:pool(#{})
    ).

-spec a_worker_has_no_number_of_workers(ct_suite:ct_config()) -> ok.
a_worker_has_no_number_of_workers(_Config) ->
    ?assertError({badopt, {workers, 1}}, py_options:worker(#{workers => 1})),
    ?assertEqual(py_options:pool(#{none => nil}), py_options:worker(#{none => nil})).

%%% What the cases share.

check(Kind, Opts) -> check(Kind, Opts, #{}).

check(pool, Opts, _Pool) -> py_options:pool(Opts);
check(worker, Opts, _Pool) -> py_options:worker(Opts);
check(Kind, Opts, Pool) -> py_options:Kind(Opts, Pool).

%% Kind, option, values that it may have, and some that it must not.
options() ->
    Common = [
        {pool, [default, self()], [<<"default">>, "default"]},
        {timeout, [0, 1, 16#ffffffff, infinity], [-1, 16#100000000, never]},
        {binaries, [str, bytes], [string, <<"str">>]},
        {atoms, [atom, str], [bytes, <<"str">>]},
        {traceback, [true, false], [yes, 1]}
    ],
    Window = [{window, [1, ?MOST], [0, -1, infinity]}, {window_bytes, [1, ?MOST], [0, -1, infinity]}],
    Collect =
        Window ++
            [
                {batch, [1, ?MOST], [0, -1, 16#8000000000000000]},
                {take, [1, ?MOST], [0, -1, infinity]},
                {format, [term, msgpack, json], [xml, <<"json">>]}
            ],
    Stream = [{kwargs, [#{}, #{a => 1}, [], [{a, 1}]], [none]}, {owner, [self()], [self, undefined]}, {demand, [0, 1, ?MOST], [-1, infinity]}],
    Pool = [
        {python, ["python3", <<"python3">>], [python3, 3]},
        {venv, ["/v", <<"/v">>, {priv, kernel, "v"}, {app, kernel}], [v, 1, "", {priv, "kernel"}, [0]]},
        {requirements, [[], ["six", <<"six">>], {file, "r.txt"}, {project, {priv, kernel}}], [six, <<"six">>, [six], {file, r}]},
        {python_path, [[], ["/a", <<"/b">>], [{priv, kernel, "python"}, {app, kernel}]], [<<"/a">>, [a], [1], ["/a:b"], [<<"/a:b">>]]},
        {env, [[], [{"A", "1"}, {<<"B">>, <<"2">>}, {"C", false}]], [["A=1"], [{"A", 1}], [{a, "1"}], [{"A", true}], #{}]},
        {cd, ["/", <<"/">>], [root, 1]},
        {preload, [[], [json, <<"json">>, "json"]], [json, <<"json">>, [1]]},
        {max_streams, [1, ?MOST], [0, -1, infinity]},
        {max_threads, [1, ?MOST], [0, -1, infinity]},
        {thread, [any, main], [all, 1]},
        {memory_limit, [1, ?MOST, infinity], [0, -1, none]},
        {none, [none, nil, undefined], [null, 'None']},
        {binaries, [str, bytes], [string]},
        {atoms, [atom, str], [bytes]},
        {traceback, [true, false], [yes]},
        {allow, [all, [], [json, {json, loads}, {"os.path", <<"join">>}]], [none, json, [1], [{json, 1}], [{a, b, c}]]},
        {interrupt_after, [0, 16#ffffffff, infinity], [-1, 16#100000000, never]},
        {kill_after, [0, 16#ffffffff, infinity], [-1, 16#100000000, never]},
        {start_timeout, [0, 16#ffffffff, infinity], [-1, 16#100000000, never]}
        | Window
    ],
    tagged(stream, Common ++ Collect ++ Stream) ++
        tagged(collect, Common ++ Collect) ++
        tagged(call, Common) ++
        tagged(exec, [{replay, [true, false], [yes]} | Common]) ++
        tagged(pool, [{workers, [1, 100], [0, -1, infinity]} | Pool]) ++
        tagged(worker, Pool).

tagged(Kind, Options) ->
    [{Kind, Key, Good, Bad} || {Key, Good, Bad} <- Options].
