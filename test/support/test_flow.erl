%% @doc The default pool with generators that say how far they are, sync or async ones, for the suites of flow
%% control. They are in `test/py_window_SUITE_data'.
-module(test_flow).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([start/2, stop/0, end_of_case/0]).
-export([start_stream/3, start_stream/4, pulled/2, stays/1, least/1]).

%% @doc Starts the application with one worker, for a group of cases.
-spec start(sync | async, ct_suite:ct_config()) -> ct_suite:ct_config().
start(Flow, Config) ->
    Tests = filename:dirname(filename:absname(?config(data_dir, Config))),
    Path = [filename:join([Tests, "py_window_SUITE_data", "sources"])],
    Pool = #{workers => 1, python_path => Path, interrupt_after => 100},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    [{flow, module(Flow)}, {path, Path} | Config].

module(sync) -> sync_flow;
module(async) -> async_flow.

-spec stop() -> ok.
stop() ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% @doc Cancels what a case has left running, and says if anything stays.
-spec end_of_case() -> ok | {fail, term()}.
end_of_case() ->
    try
        [ok = py:stream_cancel(element(1, Row)) || Row <- ets:tab2list(py_streams)],
        test_leftovers:none()
    catch
        error:Reason -> {fail, Reason}
    end.

-spec start_stream(Function :: atom(), Args :: [term()], ct_suite:ct_config()) -> {ok, reference()} | {error, term()}.
start_stream(Function, Args, Config) ->
    start_stream(Function, Args, #{}, Config).

%% @doc Starts a stream of the group's flow.
-spec start_stream(Function :: atom(), Args :: [term()], Opts :: map(), ct_suite:ct_config()) ->
    {ok, reference()} | {error, term()}.
start_stream(Function, Args, Opts, Config) ->
    py:stream_start(?config(flow, Config), Function, Args, Opts).

%% @doc How many values were asked of a generator.
-spec pulled(Label :: integer(), ct_suite:ct_config()) -> non_neg_integer().
pulled(Label, Config) ->
    {ok, Count} = py:call(?config(flow, Config), progress, [Label]),
    Count.

%% @doc What is true stays true while the worker answers calls, and for a moment longer than
%% any clock in it.
-spec stays(fun(() -> boolean())) -> ok.
stays(Fun) ->
    [
        begin
            {ok, _} = py:call(time, sleep, [0.004]),
            ?assert(Fun())
        end
     || _ <- lists:seq(1, 5)
    ],
    ok.

%% @doc What an owner finds at least when it has taken values and sleeps again. Credit is given for
%% a quarter of the window, and for a frame when all of it was taken; a frame has a quarter of
%% the window at most.
-spec least(Window :: pos_integer()) -> non_neg_integer().
least(Window) ->
    NoCredit = (Window + 3) div 4 - 1,
    PartOfAFrame = max(1, Window div 4) - 1,
    Window - NoCredit - PartOfAFrame.
