%% @doc Handles: objects that stay in the worker that has made them.
%%
%% Each has a keeper, a process that makes the call whose result the object is. It watches the
%% owner, which is the process that called, and the worker; the worker lets go of the object when the owner
%% ends, or lets go of the handle. The keeper of a worker that has died says so for as long
%% as the owner lives. Where the worker is on another node, a process beside it watches the keeper,
%% so that the object goes with the connection as well.
%% @hidden
-module(py_handle).

-include("py_worker.hrl").

-export([make/1, worker/1, among/1, release/1, gone/1, identity/1, hold/3]).
-export_type([handle/0]).

-type handle() :: {py_handle, {Keeper :: pid(), Worker :: pid(), Id :: binary()}}.

-define(RELEASED, {'ReferenceError', <<"the handle was released">>}).

%% @doc Makes a handle of the result of a call, for the calling process. `Call' starts it for the
%% process that runs it, as `py:spawn_call' does.
-spec make(fun(() -> reference())) -> {ok, handle()} | {error, py_error:reason()}.
make(Call) ->
    Owner = self(),
    {Keeper, Monitor} = spawn_monitor(fun() -> keeper(Owner, Call) end),
    receive
        {Keeper, Result} ->
            erlang:demonitor(Monitor, [flush]),
            Result;
        {'DOWN', Monitor, process, Keeper, {raised, Class, Reason, Stack}} ->
            erlang:raise(Class, Reason, Stack);
        {'DOWN', Monitor, process, Keeper, Reason} ->
            {error, py_error:worker_exit(Reason)}
    end.

%% When the owner ends before there is a result, so does this process, and with it the call.
keeper(Owner, Call) ->
    OwnerMonitor = erlang:monitor(process, Owner),
    Ref =
        try
            Call()
        catch
            Class:Reason:Stack -> exit({raised, Class, Reason, Stack})
        end,
    receive
        {Ref, {ok, {Pid, Id}}} ->
            Worker = py_frame:localized(Pid),
            WorkerMonitor = erlang:monitor(process, Worker),
            Owner ! {self(), {ok, {py_handle, {self(), Worker, Id}}}},
            keep(Worker, Id, OwnerMonitor, WorkerMonitor);
        {Ref, Error} ->
            Owner ! {self(), Error};
        {'DOWN', OwnerMonitor, process, _, _} ->
            ok
    end.

keep(Worker, Id, OwnerMonitor, WorkerMonitor) ->
    receive
        {py_handle_ask, Alias} ->
            Alias ! {Alias, {ok, Worker}},
            keep(Worker, Id, OwnerMonitor, WorkerMonitor);
        {'DOWN', WorkerMonitor, process, _, Reason} ->
            dead(lost(Reason, Worker), OwnerMonitor);
        {'DOWN', OwnerMonitor, process, _, _} ->
            let_go(Worker, Id);
        py_handle_release ->
            let_go(Worker, Id);
        _ ->
            keep(Worker, Id, OwnerMonitor, WorkerMonitor)
    end.

dead(Reason, OwnerMonitor) ->
    receive
        {py_handle_ask, Alias} ->
            Alias ! {Alias, {error, Reason}},
            dead(Reason, OwnerMonitor);
        {'DOWN', OwnerMonitor, process, _, _} ->
            ok;
        py_handle_release ->
            ok;
        _ ->
            dead(Reason, OwnerMonitor)
    end.

let_go(Worker, Id) when node(Worker) =:= node() ->
    forget(Worker, Id);
let_go(_Worker, _Id) ->
    %% See hold/3.
    ok.

lost(noconnection, Worker) -> {nodedown, node(Worker)};
lost(Reason, _Worker) -> py_error:worker_exit(Reason).

%% @private
%% @doc Lets a worker of this node let go of an object when its keeper, on another node, ends.
-spec hold(Keeper :: pid(), Worker :: pid(), binary()) -> ok.
hold(Keeper, Worker, Id) ->
    _ = spawn(fun() ->
        KeeperMonitor = erlang:monitor(process, Keeper),
        WorkerMonitor = erlang:monitor(process, Worker),
        receive
            {'DOWN', KeeperMonitor, process, _, _} -> forget(Worker, Id);
            {'DOWN', WorkerMonitor, process, _, _} -> ok
        end
    end),
    ok.

forget(Pid, Id) ->
    case py_workers:find(Pid) of
        {Worker, _} ->
            _ = py_port:write(Worker, py_frame:release(Id)),
            ok;
        none ->
            ok
    end.

%% @doc Nobody needs the object any more. From any process, any number of times.
-spec release(handle()) -> ok.
release({py_handle, {Keeper, _Worker, _Id}}) ->
    Keeper ! py_handle_release,
    ok.

%% @doc The worker that has the object.
-spec worker(handle()) -> {ok, pid()} | {error, py_error:reason()}.
worker({py_handle, {Keeper, _Worker, _Id}}) ->
    Alias = erlang:monitor(process, Keeper, [{alias, reply_demonitor}]),
    Keeper ! {py_handle_ask, Alias},
    receive
        {Alias, Answer} -> Answer;
        {'DOWN', Alias, process, _, noconnection} -> {error, {nodedown, node(Keeper)}};
        {'DOWN', Alias, process, _, _} -> {error, ?RELEASED}
    end.

%% @doc What became of the worker of a handle, which is not there any more.
-spec gone(handle()) -> py_error:reason().
gone(Handle = {py_handle, {_Keeper, Worker, _Id}}) ->
    Monitor = erlang:monitor(process, Worker),
    receive
        {'DOWN', Monitor, process, _, Reason} ->
            case worker(Handle) of
                {error, Known} -> Known;
                %% Its keeper is about to hear of it.
                {ok, _} -> lost(Reason, Worker)
            end
    end.

%% @doc The name of the object in its worker.
-spec identity(handle()) -> binary().
identity({py_handle, {_Keeper, _Worker, Id}}) -> Id.

%% @doc The first handle in lists of arguments and maps of named ones.
-spec among([term()]) -> handle() | none.
among(Values) ->
    lists:foldl(fun first/2, none, Values).

first(Values, none) when is_list(Values) ->
    try lists:keyfind(py_handle, 1, Values) of
        Handle = {py_handle, {_, _, _}} -> Handle;
        _ -> none
    catch
        error:badarg -> none
    end;
first(Values, none) when map_size(Values) > 0 ->
    first(maps:values(Values), none);
first(_Values, Found) ->
    Found.
