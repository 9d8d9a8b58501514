%% @doc What goes on while things die all the time: streams alone, see test_chaos, and all functions at
%% once, see test_mixed_chaos. The OS variable CHAOS says for how many seconds, and CHAOS_SEED how
%% the second begins.
-module(py_chaos_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([chaos/1, mixed/1]).

-define(SECONDS, "8").
-define(MIXED_SECONDS, "30").
%% Descriptors of the node that is under fire: few enough to be used up at once.
-define(DESCRIPTORS, "400").
%% What memory may differ by, however long it takes, in bytes. Python processes are new ones.
-define(NODE_BYTES, 8 * 1024 * 1024).
-define(PYTHON_BYTES, 32 * 1024 * 1024).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {seconds, 300 + 2 * seconds(?MIXED_SECONDS)}}].

-spec all() -> [atom()].
all() ->
    [chaos, mixed].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Pool = #{workers => 2, python_path => [sources(Config)]},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

sources(Config) ->
    filename:join(filename:dirname(filename:absname(?config(data_dir, Config))), "py_model_SUITE_data").

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% With 50 streams at all times and a death every 200 ms, each stream has its values in
%% order and one end, and what dies is there again.
-spec chaos(ct_suite:ct_config()) -> {comment, string()}.
chaos(_Config) ->
    Figures = test_chaos:run(#{milliseconds => 1000 * seconds(?SECONDS), streams => 50, every => 200}),
    ct:pal("~b seconds of chaos: ~p", [seconds(?SECONDS), Figures]),
    #{started := Started, killed := Killed, worker_exit := Exits, done := Done} = Figures,
    ?assertMatch(#{lost := 0, doubled := 0}, Figures),
    ?assertEqual([], [Wrong || Wrong = {wrong, _} <- maps:keys(Figures)]),
    %% It was chaos, and work was done all the same.
    ?assert(Killed >= seconds(?SECONDS)),
    ?assert(Exits >= Killed),
    ?assert(Done > 50),
    %% Each has one end.
    ?assertEqual(Started, Done + Exits + maps:get(cancelled, Figures, 0)),
    #{memory_before := Before, memory_after := After} = Figures,
    ?assert(maps:get(node, After) < maps:get(node, Before) + ?NODE_BYTES),
    ?assert(maps:get(python, After) < maps:get(python, Before) + ?PYTHON_BYTES),
    {comment, lists:flatten(io_lib:format("~p", [Figures]))}.

%% The same for every function of the API, and whatever may die, in a node of its own.
-spec mixed(ct_suite:ct_config()) -> {comment, string()}.
mixed(Config) ->
    _ = os:cmd("epmd -daemon"),
    Seconds = seconds(?MIXED_SECONDS),
    Seed = list_to_integer(os:getenv("CHAOS_SEED", integer_to_list(erlang:system_time(second)))),
    ct:pal("~b seconds of mixed chaos, seed ~b", [Seconds, Seed]),
    Mark = "CHAOS_MARK=" ++ os:getpid() ++ "." ++ integer_to_list(Seed),
    {ok, Peer, _} = peer:start(#{
        %% The node's name changes meanwhile.
        connection => standard_io,
        exec => {"/bin/sh", ["-c", "ulimit -n " ++ ?DESCRIPTORS ++ "; exec \"$0\" \"$@\"", os:find_executable("erl")]},
        args => lists:append([["-pa", filename:dirname(code:which(Module))] || Module <- [py, test_mixed_chaos]]),
        env => [list_to_tuple(string:split(Mark, "="))],
        wait_boot => 20000
    }),
    try
        Call = fun(M, F, Args) -> peer:call(Peer, M, F, Args, infinity) end,
        ok = Call(application, load, [erlang_python]),
        Pool = #{workers => 3, python_path => [sources(Config)], max_requests => 2000},
        Env = [{pools, #{default => Pool}}, {liveness_ms, 1000}, {python, os:getenv("ERLANG_PYTHON", "python3")}],
        [ok = Call(application, set_env, [erlang_python, Key, Value]) || {Key, Value} <- Env],
        Log = #{config => #{file => filename:join(?config(priv_dir, Config), "chaos.log")}, level => all},
        ok = Call(logger, add_handler, [chaos, logger_std_h, Log]),
        ok = Call(logger, remove_handler, [default]),
        {ok, _} = Call(application, ensure_all_started, [erlang_python]),
        Figures = Call(test_mixed_chaos, run, [#{
            milliseconds => 1000 * Seconds,
            users => 24,
            every => 100,
            seed => Seed,
            mark => Mark,
            node => list_to_atom("py_chaos_" ++ os:getpid() ++ "@127.0.0.1")
        }]),
        {Details, Numbers} = maps:take(details, Figures),
        ct:pal("~b seconds of mixed chaos: ~p~n~p", [Seconds, Numbers, Details]),
        ?assertMatch(#{lost := 0, doubled := 0, untold := 0, wrong := 0, left := [], details := []}, Figures),
        %% It was chaos, and work was done all the same.
        [?assert(maps:get(Key, Figures, 0) > 0) || Key <- [{kill, py_stream}, {kill, sigkill}, {kill, load}, stream, call]],
        ?assert(maps:get(stream, Figures) > Seconds),
        #{memory := {Before, After}} = Figures,
        ?assert(maps:get(node, After) < maps:get(node, Before) + ?NODE_BYTES),
        ?assert(maps:get(python, After) < maps:get(python, Before) + ?PYTHON_BYTES),
        {comment, lists:flatten(io_lib:format("~p", [Numbers]))}
    after
        peer:stop(Peer)
    end.

seconds(Default) ->
    list_to_integer(os:getenv("CHAOS", Default)).
