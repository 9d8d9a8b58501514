%% @doc The process of the groups that show which node offers which pool: that of `pg', except on OTP 25.
%%
%% From OTP 28 on `pg' greets with a message that the one of OTP 25 does not know, and ends for. So there,
%% a node of a newer release would end it again and again, and with it the application. What the message says more
%% may be ignored, as the later releases do.
%% @hidden
-module(py_groups).
-behaviour(gen_server).

-export([start_link/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-spec start_link(atom()) -> {ok, pid()} | {error, term()}.
start_link(Scope) ->
    case erlang:system_info(otp_release) of
        "25" -> gen_server:start_link({local, Scope}, ?MODULE, [Scope], []);
        _ -> pg:start_link(Scope)
    end.

%%% gen_server callbacks: those of `pg'.

-spec init([atom()]) -> {ok, term()}.
init(Scope) ->
    pg(init, [Scope]).

-spec handle_call(term(), gen_server:from(), term()) -> {reply, term(), term()}.
handle_call(Request, From, State) ->
    pg(handle_call, [Request, From, State]).

-spec handle_cast(term(), term()) -> {noreply, term()}.
handle_cast(Request, State) ->
    pg(handle_cast, [Request, State]).

-spec handle_info(term(), term()) -> {noreply, term()}.
handle_info({discover, Peer, _Version}, State) ->
    pg(handle_info, [{discover, Peer}, State]);
handle_info(Message, State) ->
    pg(handle_info, [Message, State]).

-spec terminate(term(), term()) -> term().
terminate(Reason, State) ->
    pg(terminate, [Reason, State]).

%% Later releases, where none of this is used, do not export them: Xref and Dialyzer need not find them.
pg(Function, Args) ->
    apply(list_to_existing_atom("pg"), Function, Args).
