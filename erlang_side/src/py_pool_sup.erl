%% @doc The supervisor of the pools' managers. One that is killed is started
%% again, and so are all, with the options that they had, when this supervisor
%% itself is.
-module(py_pool_sup).
-behaviour(supervisor).

-export([start_link/0, start_pool/2, stop_pool/1, init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc Starts a pool and waits until all of its workers take work.
-spec start_pool(atom(), py_options:pool_options()) -> {ok, pid()} | {error, term()}.
start_pool(Name, Opts) ->
    try supervisor:start_child(?MODULE, manager(Name, py_options:pool(Opts))) of
        {ok, Pid} -> {ok, Pid};
        {error, {already_started, Pid}} -> {error, {already_started, Pid}};
        {error, already_present} -> {error, already_present};
        {error, {{shutdown, Reason}, _Child}} -> {error, Reason};
        {error, {Reason, _Child}} -> {error, Reason};
        {error, Reason} -> {error, Reason}
    catch
        exit:{noproc, _} -> {error, {not_started, erlang_python}}
    end.

manager(Name, Opts) ->
    #{id => Name, start => {py_pool_manager, start_link, [Name, Opts]}, shutdown => 5000}.

%% @doc Stops a pool; its streams and calls end with `{worker_exit, stopped}'.
-spec stop_pool(atom()) -> ok | {error, py_error:reason()}.
stop_pool(Name) ->
    try supervisor:terminate_child(?MODULE, Name) of
        ok ->
            py_pool:forget(Name),
            supervisor:delete_child(?MODULE, Name);
        {error, not_found} ->
            {error, {no_pool, Name}}
    catch
        exit:{noproc, _} -> {error, {no_pool, Name}}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Managers = [manager(Name, Opts) || {Name, Opts} <- py_pool:known()],
    {ok, {#{strategy => one_for_one, intensity => 100, period => 1}, Managers}}.
