%% @doc Nodes of a cluster, each with the application and pools of its own. They are held by their
%% standard input and output, not by distribution, so that they live when nodes part.
-module(test_cluster).

-export([start_this_node/0, start/1, start/2, stop/1, call/4, kill/1, part/1, clean/1]).
-export_type([member/0]).

-type member() :: {Peer :: pid(), Node :: node()}.

%% @doc Starts the application here, without a pool, and distribution where it can be had.
-spec start_this_node() -> ok | {skip, string()}.
start_this_node() ->
    case test_other_node:distribution() of
        ok ->
            _ = application:load(erlang_python),
            application:set_env(erlang_python, pools, #{}),
            {ok, _} = application:ensure_all_started(erlang_python),
            ok;
        Skip ->
            Skip
    end.

%% @doc Starts a node whose application has these pools.
-spec start(#{atom() => map()}) -> member().
start(Pools) ->
    start(Pools, #{}).

%% @doc The same with options for `peer'.
-spec start(#{atom() => map()}, map()) -> member().
start(Pools, Opts) ->
    %% `global' would part nodes by itself when others part, from OTP 25 on; here only the tests do.
    Alone = ["-kernel", "connect_all", "false", "-kernel", "prevent_overlapping_partitions", "false"],
    Args = Alone ++ lists:append([["-pa", Path] || Path <- paths()]) ++ maps:get(args, Opts, []),
    {ok, Peer, Node} = peer:start(
        maps:merge(
            #{
                name => peer:random_name(),
                host => "127.0.0.1",
                longnames => true,
                connection => standard_io
            },
            Opts#{args => Args ++ ["-setcookie", atom_to_list(erlang:get_cookie())]}
        )
    ),
    ok = peer:call(Peer, application, load, [erlang_python]),
    ok = peer:call(Peer, application, set_env, [erlang_python, pools, Pools]),
    {ok, _} = peer:call(Peer, application, ensure_all_started, [erlang_python], 60000),
    {Peer, Node}.

paths() ->
    [filename:dirname(code:which(Module)) || Module <- [py, ?MODULE]].

-spec stop(member()) -> ok.
stop({Peer, _Node}) ->
    try
        peer:stop(Peer)
    catch
        %% It was stopped, or broken, before.
        _:_ -> ok
    end.

%% @doc Calls a function there, also while there is no connection.
-spec call(member(), module(), atom(), [term()]) -> term().
call({Peer, _Node}, M, F, Args) ->
    peer:call(Peer, M, F, Args, 30000).

%% @doc Kills the node as the operating system does.
-spec kill(member()) -> ok.
kill(Member) ->
    ok = test_os_process:kill(call(Member, os, getpid, [])),
    ok.

%% @doc Breaks the connection off.
-spec part(member()) -> ok.
part({_Peer, Node}) ->
    _ = erlang:disconnect_node(Node),
    ok.

%% @doc What is left there of requests: streams, relays, requests of each pool.
-spec clean(member()) -> ok.
clean(Member) ->
    test_eventually:equal({0, 0, []}, fun() ->
        {
            call(Member, ets, info, [py_streams, size]),
            call(Member, ets, info, [py_relays, size]),
            [
                Load
             || Pool <- call(Member, py_pool, names, []),
                Load = {N, _} <- [call(Member, py_pool, pool_load, [Pool])],
                N =/= 0
            ]
        }
    end).
