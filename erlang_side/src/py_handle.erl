%% @doc Handles: objects that stay in the worker that has made them.
%%
%% Each has a keeper, a process that makes the call whose result the object is. It watches the
%% owner, which is the process that called, and ends with it, or when the handle is let go of. The keeper
%% of a worker that has died says so for as long as the owner lives. A process on the worker's node, which is there
%% before the keeper gets the result, watches the keeper, and lets the worker let go of the object however the
%% keeper ends, and with the connection between two nodes.
%% @hidden
-module(py_handle).
-behaviour(gen_server).

-export([make/1, worker/1, among/1, release/1, gone/1, identity/1, hold/3]).
-export([enter/2, enter/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).
-export_type([handle/0]).

-type handle() :: {py_handle, {Keeper :: pid(), Worker :: pid(), Id :: binary()}}.

-record(keeper, {
    owner :: pid(),
    owner_monitor :: reference(),
    %% The call that makes the object, until its result has come.
    call :: reference() | none,
    %% Where the object is, or why it is not there any more.
    worker = none :: none | {pid(), Monitor :: reference(), Id :: binary()} | {error, py_error:reason()}
}).

-record(holder, {
    keeper_monitor :: reference(),
    worker :: pid(),
    worker_monitor :: reference(),
    id :: binary()
}).

-define(RELEASED, {'ReferenceError', <<"the handle was released">>}).

%% @doc Makes a handle of the result of a call, for the calling process. `Call' starts it for the
%% process that runs it, as `py:spawn_call' does.
-spec make(fun(() -> reference())) -> {ok, handle()} | {error, py_error:reason()}.
make(Call) ->
    try proc_lib:spawn_opt(?MODULE, enter, [self(), Call], [monitor]) of
        {Keeper, Monitor} -> made(Keeper, Monitor)
    catch
        %% The node has as many processes as it may have.
        error:system_limit -> {error, system_limit}
    end.

made(Keeper, Monitor) ->
    receive
        {Keeper, {raised, Class, Reason, Stack}} ->
            erlang:demonitor(Monitor, [flush]),
            erlang:raise(Class, Reason, Stack);
        {Keeper, Result} ->
            erlang:demonitor(Monitor, [flush]),
            Result;
        {'DOWN', Monitor, process, Keeper, Reason} ->
            {error, py_error:worker_exit(Reason)}
    end.

%% @private
-spec enter(pid(), fun(() -> reference())) -> no_return().
enter(Owner, Call) ->
    OwnerMonitor = erlang:monitor(process, Owner),
    Ref =
        try
            Call()
        catch
            %% Not by its exit, which proc_lib(3) would report with the arguments.
            Class:Reason:Stack ->
                Owner ! {self(), {raised, Class, Reason, Stack}},
                exit(normal)
        end,
    gen_server:enter_loop(?MODULE, [], #keeper{owner = Owner, owner_monitor = OwnerMonitor, call = Ref}).

%% @private
-spec enter(Keeper :: pid(), Worker :: pid(), binary()) -> no_return().
enter(Keeper, Worker, Id) ->
    gen_server:enter_loop(?MODULE, [], #holder{
        keeper_monitor = erlang:monitor(process, Keeper),
        worker = Worker,
        worker_monitor = erlang:monitor(process, Worker),
        id = Id
    }).

%%% gen_server callbacks, of a keeper and of what holds an object for it. Servers,
%%% because such a process survives that the code is loaded twice.

-type state() :: #keeper{} | #holder{}.

-include("py_entered.hrl").

%% When the owner ends before there is a result, so does this process, and with it the call.
-spec handle_info(term(), state()) -> {noreply, state()} | {stop, normal, state()}.
handle_info({Ref, {ok, {Pid, Id}}}, Keeper = #keeper{call = Ref, owner = Owner}) when is_reference(Ref) ->
    Worker = py_frame:localized(Pid),
    Monitor = erlang:monitor(process, Worker),
    Owner ! {self(), {ok, {py_handle, {self(), Worker, Id}}}},
    {noreply, Keeper#keeper{call = none, worker = {Worker, Monitor, Id}}};
handle_info({Ref, Error}, Keeper = #keeper{call = Ref, owner = Owner}) when is_reference(Ref) ->
    Owner ! {self(), Error},
    {stop, normal, Keeper};
handle_info({'DOWN', Monitor, process, _, _}, Keeper = #keeper{owner_monitor = Monitor}) ->
    {stop, normal, Keeper};
handle_info(py_handle_release, Keeper) ->
    {stop, normal, Keeper};
handle_info({py_handle_ask, Alias}, Keeper = #keeper{worker = {Worker, _, _}}) ->
    Alias ! {Alias, {ok, Worker}},
    {noreply, Keeper};
handle_info({py_handle_ask, Alias}, Keeper = #keeper{worker = Error = {error, _}}) ->
    Alias ! {Alias, Error},
    {noreply, Keeper};
handle_info({'DOWN', Monitor, process, Worker, Reason}, Keeper = #keeper{worker = {Worker, Monitor, _}}) ->
    {noreply, Keeper#keeper{worker = {error, lost(Reason, Worker)}}};
%% Of a call that was killed.
handle_info({'DOWN', Ref, process, _, Reason}, Keeper = #keeper{call = Ref, owner = Owner}) ->
    Owner ! {self(), {error, py_error:worker_exit(Reason)}},
    {stop, normal, Keeper};
handle_info({'DOWN', Monitor, process, _, _}, Holder = #holder{keeper_monitor = Monitor}) ->
    forget(Holder#holder.worker, Holder#holder.id),
    {stop, normal, Holder};
handle_info({'DOWN', Monitor, process, _, _}, Holder = #holder{worker_monitor = Monitor}) ->
    {stop, normal, Holder};
handle_info(_Other, State) ->
    {noreply, State}.

lost(noconnection, Worker) -> {nodedown, node(Worker)};
lost(Reason, _Worker) -> py_error:worker_exit(Reason).

%% @private
%% @doc Lets a worker of this node let go of an object when its keeper ends.
-spec hold(Keeper :: pid(), Worker :: pid(), binary()) -> ok.
hold(Keeper, Worker, Id) ->
    _ = proc_lib:spawn(?MODULE, enter, [Keeper, Worker, Id]),
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

%% @doc What became of the worker of a handle, which takes nothing any more. One that ends what it runs, and
%% then leaves, says so at once: the object goes with it.
-spec gone(handle()) -> py_error:reason().
gone(Handle = {py_handle, {_Keeper, Worker, _Id}}) ->
    %% Whatever it is asked: one that ends does not answer.
    try gen_server:call(Worker, os_pid, infinity) of
        _ -> {worker_exit, stopped}
    catch
        exit:{{nodedown, Node}, _} -> {nodedown, Node};
        exit:{noconnection, _} -> {nodedown, node(Worker)};
        exit:_ -> known(Handle)
    end.

%% If its keeper says that the worker is there, it is about to hear of its end.
known(Handle) ->
    case worker(Handle) of
        {error, Known} -> Known;
        {ok, _} -> known(Handle)
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
