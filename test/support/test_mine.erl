%% @doc An application that starts without pools, and what suites ask of the pool `mine' that they start.
-module(test_mine).

-export([start_application/0, stop_application/0]).
-export([call/2, eval/1, exec/1, os_pids/0, await_calls/1]).

%% @doc Starts the application; its pools are those that a case starts.
-spec start_application() -> ok.
start_application() ->
    application:load(erlang_python),
    application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok.

%% @doc Stops the application and forgets what a case has configured.
-spec stop_application() -> ok.
stop_application() ->
    _ = application:stop(erlang_python),
    [application:unset_env(erlang_python, Key) || Key <- [pools, drain_timeout, liveness_ms]],
    ok.

%% @doc Calls a function without arguments.
-spec call(M :: atom(), F :: atom()) -> {ok, term()} | {error, term()}.
call(M, F) ->
    py:call(M, F, [], #{}, #{pool => mine}).

-spec eval(iodata()) -> {ok, term()} | {error, term()}.
eval(Code) ->
    py:eval(Code, #{}, #{pool => mine}).

-spec exec(iodata()) -> ok | {error, term()}.
exec(Code) ->
    py:exec(Code, #{pool => mine}).

%% @doc The Python processes of the workers, as `py:info/1' has them.
-spec os_pids() -> [pos_integer()].
os_pids() ->
    lists:sort([OsPid || #{os_pid := OsPid} <- maps:get(workers, py:info(mine))]).

%% @doc Returns when so many calls run in Python.
-spec await_calls(non_neg_integer()) -> ok.
await_calls(N) ->
    test_eventually:true(fun() -> lists:sum([Calls || #{calls := Calls} <- maps:get(workers, py:info(mine))]) =:= N end).
