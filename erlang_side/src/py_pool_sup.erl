%% @doc The supervisor of the pools. Workers are linked to their pool's manager,
%% which restarts them with a back-off of its own: a broken environment must
%% not use up anybody's restart intensity.
-module(py_pool_sup).
-behaviour(supervisor).

-export([start_link/0, start_pool/2, stop_pool/1, init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc Starts a pool and waits until all of its workers take work.
-spec start_pool(atom(), map()) -> {ok, pid()} | {error, term()}.
start_pool(Name, Opts) ->
    Checked = py_options:pool(Opts),
    Spec = #{id => Name, start => {py_pool, start_link, [Name, Checked]}, shutdown => 5000},
    try supervisor:start_child(?MODULE, Spec) of
        {ok, Pid} ->
            {ok, Pid};
        {error, {already_started, Pid}} ->
            {error, {already_started, Pid}};
        {error, already_present} ->
            {error, already_present};
        {error, {{shutdown, Reason}, _Child}} ->
            {error, Reason};
        {error, Reason} ->
            {error, Reason}
    catch
        exit:{noproc, _} -> {error, {not_started, erlang_python}}
    end.

%% @doc Stops a pool; its streams and calls end with `{worker_exit, stopped}'.
-spec stop_pool(atom()) -> ok | {error, py_error:reason()}.
stop_pool(Name) ->
    try supervisor:terminate_child(?MODULE, Name) of
        ok -> supervisor:delete_child(?MODULE, Name);
        {error, not_found} -> {error, {no_pool, Name}}
    catch
        exit:{noproc, _} -> {error, {no_pool, Name}}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), []}}.
init([]) ->
    {ok, {#{strategy => one_for_one, intensity => 100, period => 1}, []}}.
