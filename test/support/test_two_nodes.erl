%% @doc This node, without a pool, and another one whose pools are `test', with two workers, which it offers to
%% the cluster, and `alone', with one, which it does not.
-module(test_two_nodes).

-export([start/1, stop/1, end_of_case/1, b/1, ended/2]).

%% Longer than anything takes that comes at all.
-define(LIMIT_MS, 10000).

%% @doc Starts both, and connects them: the groups of pools are seen over connections that there are.
-spec start(ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
start(Config) ->
    case test_cluster:start_this_node() of
        ok ->
            B = {_, Node} = test_cluster:start(#{test => #{workers => 2, cluster => true}, alone => #{workers => 1}}),
            pong = net_adm:ping(Node),
            [{b, B} | Config];
        Skip ->
            Skip
    end.

-spec stop(ct_suite:ct_config()) -> ok.
stop(Config) ->
    test_cluster:stop(proplists:get_value(b, Config)),
    application:stop(erlang_python),
    application:unset_env(erlang_python, pools).

%% @doc Makes both as they were before the case.
-spec end_of_case(ct_suite:ct_config()) -> ok.
end_of_case(Config) ->
    _ = py:stop_pool(test),
    {B, Node} = b(Config),
    test_eventually:equal(pong, fun() -> net_adm:ping(Node) end),
    _ = [test_cluster:call(B, py, resume, [Pool]) || Pool <- [test, alone]],
    ok.

%% @doc The other node, for `test_cluster', and its name.
-spec b(ct_suite:ct_config()) -> {test_cluster:member(), node()}.
b(Config) ->
    B = {_, Node} = proplists:get_value(b, Config),
    {B, Node}.

%% @doc The reason of a stream's end, after values from N on, without a gap.
-spec ended(reference(), non_neg_integer()) -> term().
ended(Ref, N) ->
    case py:stream_next(Ref, ?LIMIT_MS) of
        {ok, N} -> ended(Ref, N + 1);
        {error, Reason} -> Reason
    end.
