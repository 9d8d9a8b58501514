%% @doc The supervisor of the pools' managers. One that is killed is started
%% again, and so are all, with the options that they had, when this supervisor
%% itself is.
%% @hidden
-module(py_pool_sup).
-behaviour(supervisor).

-export([start_link/0, start_pool/2, start_link_pool/2, stop_pool/1, init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc Starts a pool and waits until all of its workers take work. The caller waits and
%% not this supervisor, which has other pools to start and to stop meanwhile.
-spec start_pool(atom(), py_options:pool_options() | [{atom(), term()}]) -> {ok, pid()} | {error, term()}.
start_pool(Name, Opts) ->
    case py_interpreter:resolve(py_options:pool(Opts)) of
        {ok, Resolved} -> start_manager(Name, Resolved);
        {error, Reason} -> {error, Reason}
    end.

%% @doc The same for a supervisor of the user's, which calls this: the pool is its child, and
%% not one of this supervisor.
-spec start_link_pool(atom(), py_options:pool_options() | [{atom(), term()}]) -> {ok, pid()} | {error, term()}.
start_link_pool(Name, Opts) ->
    case {py_pool:is_running(), py_interpreter:resolve(py_options:pool(Opts))} of
        {true, {ok, Resolved}} -> py_pool_manager:start_link_ready(Name, Resolved);
        {true, {error, Reason}} -> {error, Reason};
        {false, _} -> {error, {not_started, erlang_python}}
    end.

start_manager(Name, Opts) ->
    try py_sealed:seal(Opts) of
        Key -> start_sealed(Name, Key)
    catch
        error:badarg -> {error, {not_started, erlang_python}}
    end.

start_sealed(Name, Key) ->
    try supervisor:start_child(?MODULE, manager(Name, Key)) of
        {ok, Pid} ->
            await_start(Name, Pid);
        {error, already_present} ->
            %% A first start failed, and who waited for it did not live to see it.
            delete(Name, undefined),
            start_sealed(Name, Key);
        {error, Reason} ->
            py_sealed:forget(Key),
            {error, not_started(Reason)}
    catch
        exit:{Why, _} when Why =:= noproc; Why =:= shutdown -> {error, {not_started, erlang_python}}
    end.

not_started({already_started, Pid}) -> {already_started, Pid};
not_started({'EXIT', {system_limit, _}}) -> system_limit;
not_started({Reason, _Child}) -> Reason.

await_start(Name, Pid) ->
    case py_first_start:await(Pid) of
        ok ->
            {ok, Pid};
        {error, Reason} ->
            delete(Name, Pid),
            {error, Reason};
        {crashed, Reason} ->
            %% It was started again, and would go on trying.
            _ = stop_pool(Name),
            {error, Reason}
    end.

%% Removes what is left of a manager that has ended, and not what somebody else has started
%% under the name meanwhile.
delete(Name, Pid) ->
    try delete_child(Name) of
        {error, running} ->
            %% The supervisor may have to hear yet of the end that the caller has heard of.
            case lists:keyfind(Name, 1, supervisor:which_children(?MODULE)) of
                {Name, Pid, _, _} -> delete(Name, Pid);
                _ -> ok
            end;
        _ ->
            ok
    catch
        %% The application stops.
        exit:_ -> ok
    end.

delete_child(Name) ->
    Spec = supervisor:get_childspec(?MODULE, Name),
    Deleted = supervisor:delete_child(?MODULE, Name),
    case {Deleted, Spec} of
        {ok, {ok, #{start := {_, _, [Name, Key]}}}} -> py_sealed:forget(Key);
        _ -> ok
    end,
    Deleted.

%% `transient': a manager whose first start failed ends in order, and is not started again.
manager(Name, Key) ->
    #{
        id => Name,
        start => {py_pool_manager, start_link, [Name, Key]},
        restart => transient,
        shutdown => 5000
    }.

%% @doc Stops a pool; its streams and calls end with `{worker_exit, stopped}'. Returns when its
%% Python processes have left.
-spec stop_pool(atom()) -> ok | {error, py_error:reason()}.
stop_pool(Name) ->
    try
        Manager = manager(Name),
        {supervisor:terminate_child(?MODULE, Name), Manager}
    of
        {ok, Stopped} ->
            py_pool:forget(Name),
            %% Whoever waited for its start may have removed it already.
            _ = delete_child(Name),
            is_pid(Stopped) andalso py_reaper:await(Stopped),
            ok;
        {{error, not_found}, _} ->
            stop_foreign(Name, py_pool:owner(Name))
    catch
        exit:{Why, _} when Why =:= noproc; Why =:= shutdown ->
            {error, {no_pool, Name}};
        exit:{killed, _} ->
            %% What supervises this one starts it again before it answers.
            _ = supervisor:which_children(py_sup),
            stop_pool(Name)
    end.

%% A pool of another supervisor, which would start it again if it ended by itself.
stop_foreign(_Name, {Manager, Parent}) ->
    try
        [Id] = [Id || {Id, Pid, _, _} <- supervisor:which_children(Parent), Pid =:= Manager],
        _ = supervisor:terminate_child(Parent, Id),
        ok
    catch
        %% It is no supervisor, or is about to end.
        _:_ -> py_own_worker:stop(Manager)
    end;
stop_foreign(Name, none) ->
    {error, {no_pool, Name}}.

manager(Name) ->
    case lists:keyfind(Name, 1, supervisor:which_children(?MODULE)) of
        {Name, Pid, _, _} -> Pid;
        false -> undefined
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    py_sealed:forget_all(),
    Managers = [manager(Name, py_sealed:seal(Opts)) || {Name, Opts} <- py_pool:known()],
    {ok, {#{strategy => one_for_one, intensity => 100, period => 1}, Managers}}.
