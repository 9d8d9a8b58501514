%% @doc The top supervisor. It owns the tables, so that they outlive the servers
%% that use them.
%% @hidden
-module(py_sup).
-behaviour(supervisor).

-export([start_link/0, init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% Children are stopped in the reverse order: the guard waits for the streams, and the reaper
%% for the Python processes, of the pools, of all at once, which it kills when their time is over.
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    ok = py_etf:init(),
    ok = py_streams:tables(),
    ok = py_pool:tables(),
    ok = py_functions:tables(),
    ok = py_sealed:tables(),
    ok = py_async_call:tables(),
    ok = py_reaper:tables(),
    ok = py_cluster:tables(),
    Guard = #{id => py_stream_guard, start => {py_stream_guard, start_link, []}},
    Counter = #{id => py_mail_counter, start => {py_mail_counter, start_link, []}},
    Reaper = #{id => py_reaper, start => {py_reaper, start_link, []}, shutdown => infinity},
    Pools = #{id => py_pool_sup, start => {py_pool_sup, start_link, []}, type => supervisor},
    Children = [py_cluster:child_spec(), Guard, Counter, Reaper, Pools],
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10}, Children}}.
