%% @doc The first start of a pool: who waits for its end, and what they hear of it. A manager starts
%% at once and Python later; whoever started it waits for the workers by {@link await/1}. The manager
%% holds the value of those who wait.
%% @hidden
-module(py_first_start).

-export([await/1, await_supervised/1, parent/0]).
-export([add/4, remove/2, progress/2, started/1]).
-export_type([waiting/0]).

-type waiting() :: #{Monitor :: reference() => {Alias :: reference(), PrintsProgress :: boolean()}}.

%%% Who waits.

%% @doc Returns when all workers of the pool take work, or when its first start failed and
%% its manager has ended. Prints meanwhile what an installer says, if called from a shell.
-spec await(pid()) -> ok | {error, term()} | {crashed, py_error:reason()}.
await(Manager) ->
    await(Manager, none).

%% @doc The same in a supervisor, which may have to end meanwhile.
-spec await_supervised(pid()) -> ok | {error, term()} | {crashed, py_error:reason()}.
await_supervised(Manager) ->
    case process_info(self(), trap_exit) of
        {trap_exit, true} -> await(Manager, parent());
        _ -> await(Manager, none)
    end.

%% @doc The process that started this one, by proc_lib(3); `none' of any other.
-spec parent() -> pid() | undefined | none.
parent() ->
    case get('$ancestors') of
        [Name | _] when is_atom(Name) -> whereis(Name);
        [Pid | _] -> Pid;
        _ -> none
    end.

await(Manager, Parent) ->
    Monitor = monitor(process, Manager, [{alias, explicit_unalias}]),
    Progress = py_progress:new(),
    ok = gen_server:cast(Manager, {await_start, self(), Monitor, py_progress:is_shown(Progress)}),
    Result = await(Monitor, Parent, Progress),
    py_progress:clear(Progress),
    _ = unalias(Monitor),
    demonitor(Monitor, [flush]),
    Result.

await(Monitor, Parent, Progress) ->
    receive
        {'EXIT', Parent, Reason} = Exit ->
            %% For the caller, too.
            self() ! Exit,
            {error, Reason};
        {Monitor, {progress, Line}} ->
            py_progress:show(Line, Progress),
            await(Monitor, Parent, Progress);
        {Monitor, started} ->
            ok;
        {'DOWN', Monitor, process, _, {shutdown, {start_failed, Reason}}} ->
            {error, Reason};
        {'DOWN', Monitor, process, _, Stopped} when Stopped =:= shutdown; Stopped =:= noproc ->
            {error, {worker_exit, stopped}};
        {'DOWN', Monitor, process, _, Reason} ->
            {crashed, py_error:worker_exit(Reason)}
    end.

%%% The manager.

%% @doc One more waits.
-spec add(pid(), Alias :: reference(), PrintsProgress :: boolean(), waiting()) -> waiting().
add(Pid, Alias, Prints, Waiting) ->
    Waiting#{monitor(process, Pid) => {Alias, Prints}}.

%% @doc One of them has ended.
-spec remove(Monitor :: reference(), waiting()) -> waiting().
remove(Monitor, Waiting) ->
    maps:remove(Monitor, Waiting).

%% @doc Something was done; `none' if nobody prints it.
-spec progress(unicode:chardata(), waiting()) -> shown | none.
progress(Line, Waiting) ->
    case [Alias || {Alias, true} <- maps:values(Waiting)] of
        [] ->
            none;
        Shown ->
            lists:foreach(fun(Alias) -> Alias ! {Alias, {progress, Line}} end, Shown),
            shown
    end.

%% @doc All workers take work; nobody waits any more.
-spec started(waiting()) -> waiting().
started(Waiting) ->
    lists:foreach(fun({Alias, _}) -> Alias ! {Alias, started} end, maps:values(Waiting)),
    [demonitor(Monitor, [flush]) || Monitor <- maps:keys(Waiting)],
    #{}.
