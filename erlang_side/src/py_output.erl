%% @doc A worker's third process: it writes what Python code prints to the node's
%% `user' device, or to one on another node, and hands Python's log records to `logger'. Both may be slow,
%% which must not delay anything else.
%%
%% It ends after its worker, when it has written all that the worker handed on.
%% @hidden
-module(py_output).
-behaviour(gen_server).

-include("py_worker.hrl").

-export([level/0, start/2]).
-export([enter/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).

%% How often the node's log level is read: no message announces a change. A
%% smaller number costs more reads, a larger one lets Python log by the old level
%% for longer.
-define(LEVEL_MS, 1000).

%% Python is sent what was taken in steps of this many bytes, of 1 MiB that may be
%% under way.
-define(CREDIT_BYTES, 64 * 1024).

-record(state, {
    worker :: #worker{},
    worker_monitor :: reference(),
    level :: non_neg_integer(),
    output :: py_credit:credit(),
    log :: py_credit:credit(),
    devices = py_devices:new() :: py_devices:devices()
}).

%% @doc Starts the process; the caller is its worker and monitors it, and has sent
%% Python the present level.
-spec start(#worker{}, OsPid :: pos_integer() | undefined) -> {pid(), reference()}.
start(Worker, OsPid) ->
    proc_lib:spawn_opt(?MODULE, enter, [Worker, OsPid], [monitor, {message_queue_data, off_heap}]).

%% @private
-spec enter(#worker{}, pos_integer() | undefined) -> no_return().
enter(Worker = #worker{pid = Pid, pool = Pool}, OsPid) ->
    py_log:describe(output, #{pool => Pool, worker => Pid, os_pid => OsPid}),
    State = #state{
        worker = Worker,
        worker_monitor = erlang:monitor(process, Pid),
        level = level(),
        output = py_credit:new(Worker, output, ?CREDIT_BYTES),
        log = py_credit:new(Worker, log, ?CREDIT_BYTES)
    },
    gen_server:enter_loop(?MODULE, [], check_level(State)).

%%% gen_server callbacks. A server, because such a process survives that the code is loaded twice.

-include("py_entered.hrl").

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({output, Payload}, State = #state{output = Credit}) ->
    put_chars(Payload),
    {noreply, State#state{output = py_credit:taken(byte_size(Payload), Credit)}};
handle_info({log, Payload}, State = #state{log = Credit}) ->
    try
        lists:foreach(fun log/1, py_frame:items(Payload)),
        {noreply, State#state{log = py_credit:taken(byte_size(Payload), Credit)}}
    catch
        %% The worker is at fault, and reports it.
        exit:Reason -> {stop, {shutdown, Reason}, State}
    end;
handle_info({output, Device, Payload}, State = #state{devices = Devices}) ->
    {noreply, State#state{devices = py_devices:print(Device, Payload, Devices)}};
handle_info(check_level, State) ->
    {noreply, check_level(State)};
handle_info({'DOWN', Monitor, process, _, _}, State = #state{worker_monitor = Monitor}) ->
    {stop, normal, State};
handle_info(Other, State = #state{worker = Worker, devices = Devices}) ->
    case py_devices:message(Other, Worker, Devices) of
        unrelated -> {noreply, State};
        New -> {noreply, State#state{devices = New}}
    end.

%% A node without that device, or with one that is closed, loses what it would
%% have shown.
put_chars(Payload) ->
    try
        io:put_chars(user, Payload)
    catch
        error:_ -> ok
    end.

%%% Log records.

log({Number, Logger, Message, Module, Function, File, Line, Time, Traceback, Request, Given, Extra}) when
    is_integer(Number), is_binary(Message), is_binary(File), is_binary(Traceback), is_map(Given), is_map(Extra)
->
    %% What Python's code names itself hides nothing of ours.
    Meta = (maps:merge(known_keys(Extra), request(Request, Given)))#{
        domain => ?DOMAIN ++ [python],
        time => Time,
        python_logger => Logger,
        module => Module,
        function => Function,
        file => unicode:characters_to_list(File),
        line => Line
    },
    case Traceback of
        <<>> ->
            logger:log(name(Number), Message, Meta);
        _ ->
            Text = <<Message/binary, $\n, Traceback/binary>>,
            logger:log(name(Number), Text, Meta#{traceback => Traceback})
    end;
log(_) ->
    exit(bad_frame).

request(none, _Given) -> #{};
request(Request, Given) -> #{request => known_keys(Request), metadata => Given}.

%% Names make no new atoms.
known_keys(Map) ->
    maps:fold(fun(Key, Value, Known) -> Known#{known(Key) => Value} end, #{}, Map).

known(Key) when is_binary(Key) ->
    try
        binary_to_existing_atom(Key)
    catch
        error:_ -> Key
    end;
known(Key) ->
    Key.

name(Number) when Number >= 50 -> critical;
name(Number) when Number >= 40 -> error;
name(Number) when Number >= 30 -> warning;
name(Number) when Number >= 25 -> notice;
name(Number) when Number >= 20 -> info;
name(_) -> debug.

%%% The level.

check_level(State = #state{worker = Worker, level = Level}) ->
    _ = erlang:send_after(?LEVEL_MS, self(), check_level),
    case level() of
        Level ->
            State;
        New ->
            _ = py_port:write(Worker, py_frame:level(New)),
            State#state{level = New}
    end.

%% @doc The node's log level as Python's numbers have it.
-spec level() -> 0..255.
level() ->
    #{level := Level} = logger:get_primary_config(),
    number(Level).

number(all) -> 1;
number(debug) -> 10;
number(info) -> 20;
number(notice) -> 25;
number(warning) -> 30;
number(error) -> 40;
number(critical) -> 50;
number(none) -> 255;
%% Python has nothing that is worse than critical.
number(_) -> 51.
